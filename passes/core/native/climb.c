/* Scores and local search. */
#include "climb.h"

/* --- scores and the climb -------------------------------------------------------------------- */

#define TRIES 4 /* moves drawn per evaluation: some change nothing */

static double total_energy(const Problem *p, const Result *r, double ticks) {
    double watts = 0.0;
    for (i64 d = 0; d < p->nd; d++)
        if (r->used >> d & 1) watts += p->dev_static[d];
    return (double)r->energy + watts * ticks;
}

Score score_of(const Problem *p, const Result *r, int objective, i64 budget, i64 frames) {
    double overflow = objective < INTERVAL ? r->overflow : 0.0, latency = (double)r->latency + overflow;
    double energy = total_energy(p, r, p->period ? (double)p->period + overflow : latency);
    Score s = {0.0, latency, energy};
    if (budget > 0 && r->latency > budget) s.late = (double)(r->latency - budget);
    if (objective == 1) { s.primary = energy; s.secondary = latency; }
    if (objective == 2) { s.primary = energy * latency; s.secondary = latency; }
    if (objective == INTERVAL) { s.primary = (double)r->interval + r->overflow; s.secondary = latency; }
    if (objective == LOAD) { s.primary = (double)r->busiest + latency / (double)frames; s.secondary = latency; }
    return s;
}

int counts_room(const Problem *p, int objective, i64 frames) {
    return p->mem_limit && frames == 1 && objective < INTERVAL;
}

/* Objective 3 looks at several frames, the others at one. */
void evaluate(Problem *p, const i64 *mode, const i64 *tiles, int objective, i64 frames, Result *r) {
    if (objective == 3) measure_interval(p, mode, tiles, frames, r);
    else simulate(p, mode, tiles, r);
    if (counts_room(p, objective, frames)) overflow_alone(p, mode, tiles, r);
}

int better_or_equal(const Score *a, const Score *b) {
    if (a->late != b->late) return a->late < b->late;
    if (a->primary != b->primary) return a->primary < b->primary;
    return a->secondary <= b->secondary;
}

/* Put operator v on device d: the first mode of d that fits what is left of its capacity. */
static int place(Problem *p, i64 *mode, i64 v, i64 d) {
    i64 old = p->mode_ptr[v] + mode[v], old_device = p->mode_device[old];
    if (old_device == d) return 0;
    for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
        if (p->mode_device[m] != d || p->resident[d] + p->mode_resident[m] > p->dev_capacity[d]) continue;
        p->resident[old_device] -= p->mode_resident[old];
        p->resident[d] += p->mode_resident[m];
        mode[v] = m - p->mode_ptr[v];
        return 1;
    }
    return 0;
}

/* Give operator v another mode of its device, if need be in the room of another operator, which then keeps fewer bytes.
 * -1: the mode drawn is none of that kind. */
static int exchange(Problem *p, i64 *mode, i64 v, uint64_t *state) {
    i64 old = p->mode_ptr[v] + mode[v], d = p->mode_device[old];
    i64 m = p->mode_ptr[v] + (i64)(next_random(state) % (uint64_t)(p->mode_ptr[v + 1] - p->mode_ptr[v]));
    if (m == old || p->mode_device[m] != d) return -1;
    i64 used = p->resident[d] - p->mode_resident[old] + p->mode_resident[m];
    if (used > p->dev_capacity[d]) {
        i64 w = (i64)(next_random(state) % (uint64_t)p->n), from = p->mode_ptr[w] + mode[w], to = -1;
        if (w == v || p->mode_device[from] != d) return 0;
        for (i64 x = p->mode_ptr[w]; x < p->mode_ptr[w + 1] && to < 0; x++)
            if (p->mode_device[x] == d && p->mode_resident[x] < p->mode_resident[from]) to = x;
        if (to < 0) return 0;
        used += p->mode_resident[to] - p->mode_resident[from];
        if (used > p->dev_capacity[d]) return 0;
        mode[w] = to - p->mode_ptr[w];
    }
    p->resident[d] = used;
    mode[v] = m - p->mode_ptr[v];
    return 1;
}

static i64 clamp_tiles(const Problem *p, i64 v, i64 tiles) {
    return p->rows[v] < tiles ? (p->rows[v] > 1 ? p->rows[v] : 1) : tiles;
}

/* The (number modulo their count)-th device of `mask`; -1 if there is none. */
static i64 nth_device(const Problem *p, uint64_t mask, uint64_t number) {
    i64 count = 0;
    for (i64 d = 0; d < p->nd; d++) count += mask >> d & 1;
    if (!count) return -1;
    i64 skip = (i64)(number % (uint64_t)count);
    for (i64 d = 0; d < p->nd; d++)
        if ((mask >> d & 1) && !skip--) return d;
    return -1;
}

/* Give operator v so many tiles, as far as it has rows. */
static int retile(const Problem *p, i64 *tiles, i64 v, i64 wanted) {
    i64 count = clamp_tiles(p, v, wanted), before = tiles[v];
    tiles[v] = count;
    return count != before;
}

/* All operators that are like v go to device d, unless that is -1, and to `wanted` tiles, unless that is 0. */
static int mutate_alike(Problem *p, i64 *mode, i64 *tiles, i64 v, i64 d, i64 wanted) {
    int changed = 0;
    for (i64 w = 0; w < p->n; w++) {
        if (p->alike[w] != p->alike[v]) continue;
        if (d >= 0) changed |= place(p, mode, w, d);
        if (wanted) changed |= retile(p, tiles, w, wanted);
    }
    return changed;
}

int mutate(Problem *p, i64 *mode, i64 *tiles, uint64_t mask, uint64_t *state) {
    uint64_t kind = next_random(state) % 11;
    uint64_t drawn = next_random(state);
    i64 first = p->focused ? p->focus[drawn % (uint64_t)p->focused] : (i64)(drawn % (uint64_t)p->n);
    i64 length = kind < 3 ? 1 : 1 + (i64)(next_random(state) % 8);
    i64 last = first + length < p->n ? first + length : p->n, d = -1;
    int changed = 0;
    if (kind == 0) {
        int exchanged = exchange(p, mode, first, state);
        if (exchanged >= 0) return exchanged;
    }
    if (kind < 6 || kind > 8) {
        d = nth_device(p, mask, next_random(state));
        if (d < 0) return 0;
    }
    if (kind > 7) {
        i64 wanted = kind < 10 ? (i64)1 << (next_random(state) % 5) : 0;
        return mutate_alike(p, mode, tiles, first, d, wanted);
    }
    if (kind < 6) {
        for (i64 v = first; v < last; v++) changed |= place(p, mode, v, d);
        if (kind < 4 || !changed) return changed;
        if (first > 0) first--;
        if (last < p->n) last++;
    }
    i64 wanted = (i64)1 << (next_random(state) % 5);
    for (i64 v = first; v < last; v++) changed |= retile(p, tiles, v, wanted);
    return changed;
}

void fill_resident(Problem *p, const i64 *mode) {
    memset(p->resident, 0, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) {
        i64 m = p->mode_ptr[v] + mode[v];
        p->resident[p->mode_device[m]] += p->mode_resident[m];
    }
}

/* The operators of a list, `count` of them; NULL with an error if one does not exist. */
static i64 *read_focus(const Problem *p, PyObject *list, i64 count) {
    i64 *focus = read_ints(list, count, "focus");
    for (i64 i = 0; focus && i < count; i++)
        if (focus[i] < 0 || focus[i] >= p->n) {
            PyErr_Format(PyExc_ValueError, "there is no operator %lld", (long long)focus[i]);
            PyMem_Free(focus);
            return NULL;
        }
    return focus;
}

PyObject *Problem_climb(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *focus_in = NULL;
    long long evaluations, budget;
    unsigned long long seed, mask;
    int objective;
    long long frames = 1;
    if (!PyArg_ParseTuple(args, "OOLKKiL|LO!", &modes, &tiles_in, &evaluations, &seed, &mask, &objective, &budget, &frames,
                          &PyList_Type, &focus_in))
        return NULL;
    i64 *mode, *tiles, *focus = NULL, focused = focus_in ? (i64)PyList_GET_SIZE(focus_in) : 0;
    if (read_frames(p, frames)) return NULL;
    if (objective != 3 && room_for_base(p)) return NULL;
    if (focused && !(focus = read_focus(p, focus_in, focused))) return NULL;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) {
        PyMem_Free(focus);
        return NULL;
    }
    size_t bytes = sizeof(i64) * (size_t)p->n;
    Result result;
    Py_BEGIN_ALLOW_THREADS
    p->focus = focus;
    p->focused = focused;
    uint64_t state = seed ? seed : 1;
    evaluate(p, mode, tiles, objective, frames, &result);
    Score current = score_of(p, &result, objective, budget, frames);
    i64 from = 0, resident[MAX_DEVICES];
    if (objective != 3) keep_base(p, mode, tiles, 0, result.order_len);
    fill_resident(p, mode);
    memcpy(resident, p->resident, sizeof(i64) * (size_t)p->nd);
    memcpy(p->best_mode, mode, bytes);
    memcpy(p->best_tiles, tiles, bytes);
    long long tries = p->n ? evaluations * TRIES : 0;
    for (long long i = 0; i < evaluations && tries > 0; tries--) {
        if (!mutate(p, mode, tiles, mask, &state)) continue;
        i++;
        int done = 1;
        if (objective == 3) measure_interval(p, mode, tiles, frames, &result);
        else done = resume(p, mode, tiles, p->best_mode, p->best_tiles, latest(&current, objective, budget), &from, &result);
        Score next = score_of(p, &result, objective, budget, frames);
        int good = done && better_or_equal(&next, &current);
        if (good && counts_room(p, objective, frames)) {
            overflow_alone(p, mode, tiles, &result);
            next = score_of(p, &result, objective, budget, frames);
            good = better_or_equal(&next, &current);
        }
        if (good) {
            current = next;
            if (objective != 3) keep_base(p, mode, tiles, from, result.order_len);
            memcpy(p->best_mode, mode, bytes);
            memcpy(p->best_tiles, tiles, bytes);
            memcpy(resident, p->resident, sizeof(i64) * (size_t)p->nd);
        } else {
            memcpy(mode, p->best_mode, bytes);
            memcpy(tiles, p->best_tiles, bytes);
            memcpy(p->resident, resident, sizeof(i64) * (size_t)p->nd);
        }
    }
    p->focused = 0;
    Py_END_ALLOW_THREADS
    PyMem_Free(focus);
    PyObject *out = Py_BuildValue("(NN)", ints_to_list(p->best_mode, p->n), ints_to_list(p->best_tiles, p->n));
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}

PyObject *Problem_score(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *order = NULL;
    int objective;
    long long budget;
    long long frames = 1;
    if (!PyArg_ParseTuple(args, "OOiL|OL", &modes, &tiles_in, &objective, &budget, &order, &frames)) return NULL;
    i64 *mode, *tiles;
    if (read_frames(p, frames)) return NULL;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Result result;
    int failed = 0;
    if (objective == 3) evaluate(p, mode, tiles, objective, frames, &result);
    else failed = simulate_asked(p, mode, tiles, order, &result);
    if (!failed && counts_room(p, objective, frames)) overflow_alone(p, mode, tiles, &result);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    if (failed) return NULL;
    Score s = score_of(p, &result, objective, budget, frames);
    return Py_BuildValue("(ddd)", s.late, s.primary, s.secondary);
}

/* Every operator on `device` where it runs, else on the fastest other device of `mask`. */
PyObject *Problem_prefer(Problem *p, PyObject *args) {
    long long device;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "LK", &device, &mask)) return NULL;
    i64 *modes = zeros(p->n);
    if (!modes) return NULL;
    PyObject *out = NULL;
    for (i64 v = 0; v < p->n; v++) {
        i64 best = -1;
        for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
            if (!(mask >> p->mode_device[m] & 1)) continue;
            int here = p->mode_device[m] == device, was = best >= 0 && p->mode_device[best] == device;
            if (best < 0 || here > was || (here == was && p->mode_work[m] < p->mode_work[best])) best = m;
        }
        if (best < 0) { PyMem_Free(modes); Py_RETURN_NONE; }
        modes[v] = best - p->mode_ptr[v];
    }
    out = ints_to_list(modes, p->n);
    PyMem_Free(modes);
    return out;
}
