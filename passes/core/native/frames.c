/* Several frames in flight: the periodic schedule that a closed loop settles into, and its interval. */
#include <stdlib.h>

#include "frames.h"

/* Make room for `frames` in flight; -1 and an exception if there is none. */
int read_frames(Problem *p, i64 frames) {
    if (frames >= 1 && frames <= MAX_FRAMES) return more_slots(p, frames + 1);
    PyErr_SetString(PyExc_ValueError, "1 to 64 frames may be in flight");
    return -1;
}

static int by_moment(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->moment != y->moment) return x->moment < y->moment ? -1 : 1;
    if (x->position != y->position) return x->position < y->position ? -1 : 1;
    return x->task < y->task ? -1 : 1;
}


/* When the tasks of the frame in `slot` start, none before what it reads from: those of operators, then of transfers. A transfer
 * of which that is not known (-1) starts when the first tile is made. */
void offsets_of(const Sim *s, i64 *offset) {
    const Problem *p = s->p;
    i64 first = INT64_MAX;
    for (i64 x = 0; x < p->nt * p->nm; x++) offset[p->n + x] = -1;
    for (i64 t = 0; t < p->nt; t++)
        for (i64 m = 0; m < p->nm && p->producer[t] < 0; m++)
            if (p->xf_state[s->transfers + t * p->nm + m] == XF_DONE)
                offset[p->n + t * p->nm + m] = most(p->xf_start[s->transfers + t * p->nm + m], 0);
    for (i64 v = 0; v < p->n; v++) {
        i64 mem = memory_of(s, v);
        offset[v] = p->op_start[s->operators + v];
        for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
            i64 t = p->in_tensor[e], u = p->producer[t], x = p->n + t * p->nm + mem;
            i64 source = source_memory(s, t) != mem ? offset[x] : u < 0 ? 0 : offset[u];
            if (source > offset[v]) offset[v] = source;
        }
        for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++)
            for (i64 x = p->out_tensor[i] * p->nm; x < (p->out_tensor[i] + 1) * p->nm; x++)
                if (p->xf_state[s->transfers + x] == XF_DONE) {
                    i64 start = p->xf_start[s->transfers + x], made = offset[v] + operator_work(s, v) / s->tiles[v];
                    offset[p->n + x] = most(start < 0 ? made : start, offset[v]);
                }
    }
    for (i64 c = 0; c < p->n + p->nt * p->nm; c++)
        if (offset[c] >= 0 && offset[c] < first) first = offset[c];
    for (i64 c = 0; c < p->n + p->nt * p->nm; c++)
        if (offset[c] >= 0) offset[c] -= first;
}

i64 list_entries(const Sim *s, const i64 *offset, i64 period, Entry *list) {
    const Problem *p = s->p;
    i64 count = 0;
    for (i64 c = 0; c < p->n + p->nt * p->nm; c++) {
        if (offset[c] < 0) continue;
        i64 x = c - p->n, u = x < 0 ? c : p->producer[x / p->nm];
        Entry *entry = list + count++;
        entry->task = c;
        entry->moment = offset[c] % period;
        entry->stage = offset[c] / period;
        entry->position = x < 0 ? 2 * c : 2 * u + 1;
        if (x < 0) {
            entry->queue = p->mode_device[p->mode_ptr[c] + s->mode[c]];
            entry->tiles = s->tiles[c];
            entry->work = operator_work(s, c);
        } else {
            entry->queue = p->nd + p->xf_channel[s->transfers + x];
            entry->tiles = u < 0 ? 1 : s->tiles[u];
            entry->work = transfer_work(s, x);
        }
    }
    qsort(list, (size_t)count, sizeof(Entry), by_moment);
    return count;
}

/* When tile k of an operator can start for its inputs. */
static i64 inputs_ready(const Sim *s, const Entry *entry, i64 k, i64 window, i64 slots, const i64 *stage, i64 moment) {
    Problem *p = s->p;
    i64 v = entry->task, mem = p->dev_memory[entry->queue];
    for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
        i64 t = p->in_tensor[e], u = p->producer[t], c = u, latency = 0;
        if (source_memory(s, t) != mem) c = p->n + t * p->nm + mem;
        else if (u < 0) continue;
        else if (p->mode_device[p->mode_ptr[u] + s->mode[u]] != entry->queue) latency = p->handoff;
        i64 lag = entry->stage - stage[c], count = u < 0 ? 1 : s->tiles[u], need = count;
        if (lag > window) continue;
        if (count > 1 && p->in_rows[e] > 0) need = needs_of(p, e, v, p->rows[u], entry->tiles, count)[k];
        else if (k) continue; /* in full for the first tile */
        if (!need) continue;
        i64 ready = past_ends(p, c, window, lag, slots)[need - 1] + latency;
        if (ready > moment) moment = ready;
    }
    return moment;
}

/* The list, run in every window as early as its queues and waits allow: by how much later a window ends than the last.
 * A frame begins when the one `flying` frames before it has ended. */
i64 growth(const Sim *s, const Entry *list, i64 count, i64 flying, const i64 *stage, i64 *free) {
    Problem *p = s->p;
    i64 slots = flying + 1, windows = slots + SETTLING + MEASURED, end = 0, early = 0;
    i64 done[MAX_FRAMES + 1 + SETTLING + MEASURED] = {0}; /* when each frame ends */
    memset(free, 0, sizeof(i64) * (size_t)(p->nd + p->nl * MAX_CHANNELS));
    for (i64 window = 0; window < windows; window++) {
        for (i64 i = 0; i < count; i++) {
            const Entry *entry = list + i;
            i64 moment = free[entry->queue], c = entry->task, frame = window - entry->stage;
            if (frame >= flying && done[frame - flying] > moment) moment = done[frame - flying];
            i64 *ends = (i64 *)past_ends(p, c, window, 0, slots);
            i64 u = c < p->n ? -1 : p->producer[(c - p->n) / p->nm];
            i64 lag = u < 0 ? 0 : entry->stage - stage[u];
            const i64 *made = u < 0 || lag > window ? NULL : past_ends(p, u, window, lag, slots);
            for (i64 k = 0; k < entry->tiles; k++) {
                if (c < p->n) moment = inputs_ready(s, entry, k, window, slots, stage, moment);
                else if (made && made[k] > moment) moment = made[k];
                moment += entry->work * (k + 1) / entry->tiles - entry->work * k / entry->tiles;
                ends[k] = moment;
            }
            free[entry->queue] = moment;
            if (moment > end) end = moment;
            if (frame >= 0 && moment > done[frame]) done[frame] = moment;
        }
        if (window == windows - 1 - MEASURED) early = end;
    }
    return ceil_div(end - early, MEASURED);
}

/* The price of what the memories have no room for in the window and the interval of `last`, whose entries are `list`. */
int measure_overflow(const Entry *list, i64 count, Steady *last, Result *out) {
    const Problem *p = last->s->p;
    last->entry = calloc((size_t)(p->n + p->nt * p->nm + 1), sizeof(Entry *));
    if (!last->entry) return -1;
    last->begin = INT64_MAX;
    for (i64 i = 0; i < count; i++) {
        const Entry *e = list + i;
        const i64 *ends = past_ends(p, e->task, last->window, 0, last->slots);
        i64 shift = e->stage * last->interval, start = ends[0] - e->work / e->tiles + shift;
        last->entry[e->task] = e;
        if (start < last->begin) last->begin = start;
        if (ends[e->tiles - 1] + shift > last->end) last->end = ends[e->tiles - 1] + shift;
    }
    out->overflow = overflow(last);
    free(last->entry);
    return out->overflow < 0 ? -1 : 0;
}

/* The same for a frame that was just evaluated by itself. */
int overflow_alone(Problem *p, const i64 *mode, const i64 *tiles, Result *out) {
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    Steady last = {&sim, NULL, 0, 1, out->latency > 0 ? out->latency : 1, 0, 0, 1};
    if (!out->order_len) return 0;
    Entry *list = calloc((size_t)out->order_len, sizeof(Entry));
    if (!list) return -1;
    for (i64 i = 0; i < out->order_len; i++) {
        i64 c = p->order[i];
        list[i].task = c;
        list[i].tiles = c < p->n ? tiles[c] : chunks_of(&sim, c - p->n);
        list[i].work = c < p->n ? operator_work(&sim, c) : transfer_work(&sim, c - p->n);
    }
    int failed = measure_overflow(list, out->order_len, &last, out);
    free(list);
    return failed;
}

/* Objective 3: the closed loop with `frames` in flight, and `interval` of the order that it settles into. */
int measure_interval(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, Result *out) {
    i64 period, slot = simulate_frames(p, mode, tiles, frames, &period, out), tasks = p->n + p->nt * p->nm;
    Sim sim = {p, mode, tiles, NULL, 0, slot, slot * p->n, slot * p->nt * p->nm, 0};
    i64 least = ceil_div(out->latency, frames);
    out->interval = out->busiest;
    out->overflow = 0.0;
    if (period < least) period = least;
    if (period < 1) return 0;
    Entry *list = malloc(sizeof(Entry) * (size_t)(tasks + 1));
    i64 *offset = malloc(sizeof(i64) * (size_t)(2 * tasks + 1)), *stage = offset + tasks;
    if (!list || !offset) { free(list); free(offset); return -1; }
    offsets_of(&sim, offset);
    i64 count = list_entries(&sim, offset, period, list);
    for (i64 i = 0; i < count; i++) stage[list[i].task] = list[i].stage;
    i64 found = growth(&sim, list, count, frames, stage, p->chan_busy);
    if (found > out->interval) out->interval = found;
    Steady last = {&sim, NULL, frames + SETTLING + MEASURED, frames + 1, out->interval, 0, 0, 0};
    int failed = p->mem_limit && measure_overflow(list, count, &last, out);
    free(list);
    free(offset);
    return failed ? -1 : 0;
}

PyObject *Problem_steady(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *list;
    long long frames;
    i64 *mode, *tiles, period, tasks = p->n + p->nt * p->nm;
    if (!PyArg_ParseTuple(args, "OOL", &modes, &tiles_in, &frames)) return NULL;
    if (read_frames(p, frames) || read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Result result;
    i64 slot = simulate_frames(p, mode, tiles, frames, &period, &result), *offset = zeros(tasks);
    Sim sim = {p, mode, tiles, NULL, 0, slot, slot * p->n, slot * p->nt * p->nm, 0};
    i64 least = ceil_div(result.latency, frames);
    if (offset) offsets_of(&sim, offset);
    list = offset ? ints_to_list(offset, tasks) : NULL;
    PyMem_Free(offset);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return list ? Py_BuildValue("(LN)", period < least ? least : period, list) : NULL;
}
