/* Evaluating a placement that differs in a few operators from one that was evaluated before, the base.
 *
 * The two schedules are the same until a tensor is produced that one of those operators reads: nothing before depends on
 * where it runs or in how many tiles. From there on the evaluation goes its own way, with what were candidates then. It ends
 * as soon as its latency is known to be too long.
 */
#include "tasks.h"

static i64 *row_of(Problem *p, i64 c) {
    return c < p->n ? p->op_tiles_end + c * MAX_TILES : p->xf_tiles_end + (c - p->n) * MAX_TILES;
}

static i64 tiles_of(const Sim *s, i64 c) { return c < s->p->n ? s->tiles[c] : chunks_of(s, c - s->p->n); }

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
    return 0;
}

/* What was evaluated last, which was as the base up to position `from`, becomes the base. */
void keep_base(Problem *p, const i64 *mode, const i64 *tiles, i64 from, i64 count) {
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    Base *b = &p->base;
    for (i64 i = from; i < count; i++) {
        i64 c = p->order[i];
        b->order[i] = c;
        b->position[c] = i;
        b->woken[c] = p->woken[c];
        memcpy(b->rows + c * MAX_TILES, row_of(p, c), sizeof(i64) * (size_t)tiles_of(&sim, c));
        if (c >= p->n) b->channel[c] = p->xf_channel[c - p->n];
    }
    b->count = b->lost = count;
    memset(b->load, 0, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) b->load[p->mode_device[p->mode_ptr[v] + mode[v]]] += operator_work(&sim, v);
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

/* Take over what the base schedules before position s->count. */
static void take_over(Sim *s, Result *out) {
    Problem *p = s->p;
    Base *b = &p->base;
    memset(p->xf_state, 0, sizeof(i64) * (size_t)(p->nt * p->nm));
    for (i64 i = 0; i < s->count; i++) {
        i64 c = b->order[i], x = c - p->n, tiles = tiles_of(s, c), *row = row_of(p, c), queue;
        if (i >= b->lost) {
            p->order[i] = c;
            p->woken[c] = b->woken[c];
            memcpy(row, b->rows + c * MAX_TILES, sizeof(i64) * (size_t)tiles);
        }
        if (x < 0) {
            i64 m = p->mode_ptr[c] + s->mode[c];
            queue = p->mode_device[m];
            p->dev_free[queue] = row[tiles - 1];
            p->busy[queue] += operator_work(s, c);
            out->energy += p->mode_energy[m];
            out->used |= (uint64_t)1 << queue;
        } else {
            queue = b->channel[c];
            p->xf_channel[x] = queue;
            p->xf_tiles[x] = tiles;
            p->xf_state[x] = XF_DONE;
            p->chan_free[queue] = row[tiles - 1];
            p->busy[p->nd + queue] += transfer_work(s, x);
            out->energy += p->xfer_energy[transfer_link(s, x) * p->nt + tensor_of(p, x)];
        }
        if (row[tiles - 1] > out->latency) out->latency = row[tiles - 1];
    }
    for (i64 q = 0; q < p->nd + p->nl * MAX_CHANNELS; q++)
        if (p->busy[q] > out->busiest) out->busiest = p->busy[q];
    if (s->count > b->lost) b->lost = s->count;
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
    if (first < 0) {
        b->lost = 0;
        release(s, 0, 0, 0);
    } else {
        take_over(s, out);
        b->lost = first;
        for (i64 i = first; i < b->count; i++)
            if (b->order[i] >= p->n && b->woken[b->order[i]] <= first) p->xf_state[b->order[i] - p->n] = XF_READY;
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
