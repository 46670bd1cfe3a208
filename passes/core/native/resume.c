/* Evaluating a placement that differs in a few operators from one that was evaluated before, the base.
 *
 * The two schedules are the same until a tensor is produced that one of those operators reads: nothing before depends on
 * where it runs or in how many tiles. From there on the evaluation goes its own way, with what were candidates then. It ends
 * as soon as its latency is known to be too long.
 */
#include "tasks.h"

#define STRIDE 16 /* tasks between marks */

static i64 *row_of(Problem *p, i64 c) {
    return c < p->n ? p->op_tiles_end + c * MAX_TILES : p->xf_tiles_end + (c - p->n) * MAX_TILES;
}

static i64 tiles_of(const Sim *s, i64 c) { return c < s->p->n ? s->tiles[c] : chunks_of(s, c - s->p->n); }

/* --- what has been done up to a position ------------------------------------------------------- */

static i64 queues_of(const Problem *p) { return p->nd + p->nl * MAX_CHANNELS; }

/* Numbers in a mark: when devices and channels are free, how busy they are, and of a result energy, used and latency. */
static i64 mark_width(const Problem *p) { return 2 * queues_of(p) + 3; }

static void set_mark(Problem *p, i64 number, const Result *r) {
    i64 *mark = p->base.marks + number * mark_width(p), devices = p->nd, channels = p->nl * MAX_CHANNELS;
    memcpy(mark, p->dev_free, sizeof(i64) * (size_t)devices);
    memcpy(mark + devices, p->chan_free, sizeof(i64) * (size_t)channels);
    memcpy(mark + devices + channels, p->busy, sizeof(i64) * (size_t)(devices + channels));
    mark += 2 * queues_of(p);
    mark[0] = r->energy; mark[1] = (i64)r->used; mark[2] = r->latency;
}

static void go_to_mark(Problem *p, i64 number, Result *r) {
    const i64 *mark = p->base.marks + number * mark_width(p);
    i64 devices = p->nd, channels = p->nl * MAX_CHANNELS;
    memcpy(p->dev_free, mark, sizeof(i64) * (size_t)devices);
    memcpy(p->chan_free, mark + devices, sizeof(i64) * (size_t)channels);
    memcpy(p->busy, mark + devices + channels, sizeof(i64) * (size_t)(devices + channels));
    mark += 2 * queues_of(p);
    r->energy = mark[0]; r->used = (uint64_t)mark[1]; r->latency = mark[2];
}

/* Count what task c of the base does. */
static void account(const Sim *s, i64 c, Result *r) {
    Problem *p = s->p;
    i64 x = c - p->n, queue, end = p->base.rows[c * MAX_TILES + tiles_of(s, c) - 1];
    if (x < 0) {
        i64 m = p->mode_ptr[c] + s->mode[c];
        queue = p->mode_device[m];
        p->dev_free[queue] = end;
        p->busy[queue] += operator_work(s, c);
        r->energy += p->mode_energy[m];
        r->used |= (uint64_t)1 << queue;
    } else {
        queue = p->base.channel[c];
        p->chan_free[queue] = end;
        p->busy[p->nd + queue] += transfer_work(s, x);
        r->energy += p->xfer_energy[transfer_link(s, x) * p->nt + tensor_of(p, x)];
    }
    if (end > r->latency) r->latency = end;
}

/* --- the base ------------------------------------------------------------------------------------ */

/* Room for a base; -1 and an exception if there is none. */
int room_for_base(Problem *p) {
    Base *b = &p->base;
    i64 tasks = p->n + p->nt * p->nm;
    if (!b->order && !(b->order = zeros(tasks))) return -1;
    if (!b->position && !(b->position = zeros(tasks))) return -1;
    if (!b->woken && !(b->woken = zeros(tasks))) return -1;
    if (!b->channel && !(b->channel = zeros(tasks))) return -1;
    if (!b->rows && !(b->rows = zeros(tasks * MAX_TILES))) return -1;
    if (!b->load && !(b->load = zeros(p->nd))) return -1;
    if (!b->moves && !(b->moves = zeros(tasks))) return -1;
    if (!b->marks && !(b->marks = zeros((tasks / STRIDE + 1) * mark_width(p)))) return -1;
    return 0;
}

/* What was evaluated last, which was as the base up to position `from`, becomes the base. */
void keep_base(Problem *p, const i64 *mode, const i64 *tiles, i64 from, i64 count) {
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    Result result = {0};
    Base *b = &p->base;
    if (!from) b->moved = 0;
    while (b->moved && b->position[b->moves[b->moved - 1]] >= from) b->moved--;
    for (i64 i = from; i < count; i++) {
        i64 c = p->order[i];
        b->order[i] = c;
        b->position[c] = i;
        b->woken[c] = p->woken[c];
        memcpy(b->rows + c * MAX_TILES, row_of(p, c), sizeof(i64) * (size_t)tiles_of(&sim, c));
        if (c < p->n) continue;
        b->channel[c] = p->xf_channel[c - p->n];
        b->moves[b->moved++] = c;
    }
    b->count = b->lost = count;
    memset(b->load, 0, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) b->load[p->mode_device[p->mode_ptr[v] + mode[v]]] += operator_work(&sim, v);
    begin_simulation(&sim, &result);
    if (from) go_to_mark(p, from / STRIDE, &result);
    for (i64 i = from / STRIDE * STRIDE; i < count; i++) {
        if (i % STRIDE == 0) set_mark(p, i / STRIDE, &result);
        account(&sim, b->order[i], &result);
    }
}

/* The position up to which a placement that differs from the base's is scheduled like it; -1 if it differs from the first. The
 * work of each device goes to `load`. */
static i64 first_effect(Problem *p, const i64 *mode, const i64 *tiles, const i64 *old_mode, const i64 *old_tiles) {
    Sim now = {p, mode, tiles, NULL, 0, 0, 0, 0, 0}, old = {p, old_mode, old_tiles, NULL, 0, 0, 0, 0, 0};
    i64 first = p->base.count;
    memcpy(p->load, p->base.load, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) {
        if (mode[v] == old_mode[v] && tiles[v] == old_tiles[v]) continue;
        p->load[p->mode_device[p->mode_ptr[v] + old_mode[v]]] -= operator_work(&old, v);
        p->load[p->mode_device[p->mode_ptr[v] + mode[v]]] += operator_work(&now, v);
        if (p->in_ptr[v] == p->in_ptr[v + 1]) first = -1;
        for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
            i64 u = p->producer[p->in_tensor[e]], position = u < 0 ? -1 : p->base.position[u];
            if (position < first) first = position;
        }
    }
    return first;
}

/* How busy everything is at position s->count of the base. */
static void count_up(const Sim *s, Result *out) {
    Problem *p = s->p;
    i64 number = s->count / STRIDE;
    if (number * STRIDE == p->base.count) number = number ? number - 1 : 0; /* there is no mark behind the last task */
    go_to_mark(p, number, out);
    for (i64 i = number * STRIDE; i < s->count; i++) account(s, p->base.order[i], out);
    for (i64 q = 0; q < queues_of(p); q++)
        if (p->busy[q] > out->busiest) out->busiest = p->busy[q];
}

/* Whether a device has more work left than it can do until `limit`. */
static int overloaded(const Problem *p, i64 limit) {
    for (i64 d = 0; d < p->nd; d++)
        if (p->dev_free[d] + p->load[d] - p->busy[d] > limit) return 1;
    return 0;
}

/* Take over what the base schedules before position s->count. */
static void take_over(Sim *s) {
    Problem *p = s->p;
    Base *b = &p->base;
    memset(p->xf_state, 0, sizeof(i64) * (size_t)(p->nt * p->nm));
    for (i64 i = b->lost; i < s->count; i++) {
        i64 c = b->order[i], x = c - p->n, tiles = tiles_of(s, c);
        p->order[i] = c;
        p->woken[c] = b->woken[c];
        memcpy(row_of(p, c), b->rows + c * MAX_TILES, sizeof(i64) * (size_t)tiles);
        if (x < 0) continue;
        p->xf_channel[x] = b->channel[c];
        p->xf_tiles[x] = tiles;
    }
    for (i64 k = 0; k < b->moved; k++) {
        i64 c = b->moves[k];
        if (b->position[c] < s->count) p->xf_state[c - p->n] = XF_DONE;
        else if (b->woken[c] <= s->count) p->xf_state[c - p->n] = XF_READY;
    }
    b->lost = s->count;
}

/* How many inputs of operator v are not there yet. */
static i64 missing(const Sim *s, i64 v) {
    const Problem *p = s->p;
    i64 count = 0, mem = memory_of(s, v);
    for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
        i64 t = p->in_tensor[e], u = p->producer[t];
        if (u >= 0 && p->base.position[u] >= s->count) count++;
        else if (source_memory(s, t) != mem && p->xf_state[t * p->nm + mem] != XF_DONE) count++;
    }
    return count;
}

/* Evaluate a placement. `from` is then the position up to which it was as the base. 0: its latency exceeds `limit`. */
int resume(Problem *p, const i64 *mode, const i64 *tiles, const i64 *old_mode, const i64 *old_tiles, i64 limit,
           i64 *from, Result *out) {
    Base *b = &p->base;
    i64 first = first_effect(p, mode, tiles, old_mode, old_tiles);
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, first > 0 ? first : 0}, *s = &sim;
    *from = s->count;
    begin_simulation(s, out);
    if (first >= 0) count_up(s, out);
    if (limit < INT64_MAX && overloaded(p, limit)) return 0;
    if (first < 0) {
        b->lost = 0;
        release(s, 0, 0, 0);
    } else {
        take_over(s);
        for (i64 i = first; i < b->count; i++) {
            i64 c = b->order[i];
            if (b->woken[c] <= first) {
                candidate(s, c);
                p->woken[c] = b->woken[c];
            } else if (c < p->n) {
                p->op_wait[c] = missing(s, c);
            }
        }
    }
    int done = run_candidates(s, limit, out);
    out->order_len = s->count;
    return done;
}
