/* The interval of a placement whose tasks keep the order that they had in another one; see tuning.py. */
#include <stdlib.h>

#include "climb.h"
#include "frames.h"

#define SHIFTS 8 /* one move in so many is one in time */
#define LONGEST 16 /* operators that move together in time */

Entry *new_list(i64 tasks) { return calloc((size_t)(tasks + 1), sizeof(Entry)); }

/* Transfer x is needed; since when it runs is known from `offset`, if it was before. */
static void need(const Sim *s, i64 x, const i64 *offset) {
    Problem *p = s->p;
    i64 link = transfer_link(s, x);
    p->xf_state[x] = XF_DONE;
    p->xf_start[x] = offset[p->n + x];
    p->xf_channel[x] = link * MAX_CHANNELS + tensor_of(p, x) % p->link_channels[link];
}

/* Another placement, or another time for a run of operators. */
int move_tuned(Problem *p, i64 *mode, i64 *tiles, uint64_t mask, Tuning *tuning, uint64_t *state) {
    tuning->first = tuning->last = 0;
    if (next_random(state) % SHIFTS) return mutate(p, mode, tiles, mask, state);
    tuning->first = (i64)(next_random(state) % (uint64_t)p->n);
    i64 length = next_random(state) % 3 == 0 ? 1 + (i64)(next_random(state) % LONGEST) : 1;
    tuning->last = tuning->first + length < p->n ? tuning->first + length : p->n;
    i64 span = 1 + (tuning->period >> (3 + next_random(state) % 5));
    tuning->ticks = (i64)(next_random(state) % (uint64_t)(2 * span)) - span;
    return 1;
}

static void move_in_time(i64 *start, i64 ticks) {
    if (*start >= 0) *start = *start + ticks > 0 ? *start + ticks : 0;
}

/* The tasks of a placement, as if they had started at `tuning->offset`, or when they are to start now. */
static void set_out(const Sim *s, const Tuning *tuning) {
    Problem *p = s->p;
    const i64 *offset = tuning->offset;
    memset(p->xf_state, 0, sizeof(i64) * (size_t)(p->nt * p->nm));
    memcpy(p->op_start, offset, sizeof(i64) * (size_t)p->n);
    for (i64 t = 0; t < p->nt; t++) {
        i64 home = source_memory(s, t);
        for (i64 i = p->cons_ptr[t]; i < p->cons_ptr[t + 1]; i++) {
            i64 memory = memory_of(s, p->cons_op[i]);
            if (memory != home) need(s, t * p->nm + memory, offset);
        }
        if (p->sink[t] && p->io_memory != home) need(s, t * p->nm + p->io_memory, offset);
    }
    for (i64 v = tuning->first; v < tuning->last; v++) {
        move_in_time(p->op_start + v, tuning->ticks);
        for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++)
            for (i64 x = p->out_tensor[i] * p->nm; x < (p->out_tensor[i] + 1) * p->nm; x++)
                if (p->xf_state[x] == XF_DONE) move_in_time(p->xf_start + x, tuning->ticks);
    }
}

/* When the tasks of a frame started, by the last window that ran, and its latency. */
static void read_times(const Problem *p, const Entry *list, i64 count, i64 frames, i64 *next, Result *out) {
    i64 window = frames + SETTLING + MEASURED, begin = INT64_MAX, end = 0;
    for (i64 c = 0; c < p->n + p->nt * p->nm; c++) next[c] = -1;
    for (i64 i = 0; i < count; i++) {
        const Entry *e = list + i;
        const i64 *ends = past_ends(p, e->task, window, 0, frames + 1);
        i64 shift = e->stage * out->interval, last = ends[e->tiles - 1] + shift;
        next[e->task] = ends[0] - e->work / e->tiles + shift;
        if (next[e->task] < begin) begin = next[e->task];
        if (last > end) end = last;
    }
    for (i64 i = 0; i < count; i++) next[list[i].task] -= begin;
    out->latency = count ? end - begin : 0;
}

/* The placement with its tasks in the order of `tuning->offset`; when they start then is `tuning->next`. What there is no
 * room for is left out where the interval alone is above `limit`. */
void rate_tuned(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, double limit, Tuning *tuning, Result *out) {
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    i64 *busy = p->busy, most = 0, tasks = p->n + p->nt * p->nm;
    memset(out, 0, sizeof(*out));
    set_out(&sim, tuning);
    offsets_of(&sim, tuning->next);
    for (i64 c = 0; c < tasks; c++)
        if (tuning->next[c] > most) most = tuning->next[c];
    i64 period = most / frames + 1 > tuning->period ? most / frames + 1 : tuning->period;
    i64 count = list_entries(&sim, tuning->next, period, tuning->list);
    memset(busy, 0, sizeof(i64) * (size_t)(p->nd + p->nl * MAX_CHANNELS));
    out->interval = 1;
    for (i64 i = 0; i < count; i++) {
        const Entry *e = tuning->list + i;
        tuning->stage[e->task] = e->stage;
        busy[e->queue] += e->work;
        if (busy[e->queue] > out->interval) out->interval = busy[e->queue];
    }
    i64 found = growth(&sim, tuning->list, count, frames, tuning->stage, p->chan_busy);
    if (found > out->interval) out->interval = found;
    read_times(p, tuning->list, count, frames, tuning->next, out);
    Steady last = {&sim, NULL, frames + SETTLING + MEASURED, frames + 1, out->interval, 0, 0, 0};
    if (p->mem_limit && (double)out->interval <= limit) measure_overflow(tuning->list, count, &last, out);
    tuning->next_period = out->interval;
}

/* The placement that was just rated is the one at hand, and perhaps the best. */
void keep_tuned(const Problem *p, Tuning *tuning, int best) {
    size_t bytes = sizeof(i64) * (size_t)(p->n + p->nt * p->nm);
    memcpy(tuning->offset, tuning->next, bytes);
    tuning->period = tuning->next_period;
    if (!best) return;
    memcpy(tuning->best, tuning->next, bytes);
    tuning->best_period = tuning->next_period;
}

/* Run the order at hand once: what settles slowly is not taken for better than it is. */
void begin_tuning(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, Tuning *tuning) {
    Result result;
    rate_tuned(p, mode, tiles, frames, 0.0, tuning, &result);
    keep_tuned(p, tuning, 0);
}
