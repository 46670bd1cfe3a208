/* Placements to set out from: the best of some, and operators to devices that slow them down by little; see starting.py. */
#include "climb.h"
#include "tasks.h"

static const i64 FINER[] = {2, 16};
static const double SLOWDOWNS[] = {0.0, 1.0, 1.5, 2.5};
#define LEVELS ((int)(sizeof(SLOWDOWNS) / sizeof(SLOWDOWNS[0])))

/* A placement with its score, if there is one yet. */
typedef struct { Score score; i64 *mode, *tiles; int known; } Start;

/* How placements are rated. */
typedef struct { Problem *p; int objective; i64 budget, frames; } Rating;

static int compare_ints(const i64 *a, const i64 *b, i64 n) {
    for (i64 i = 0; i < n; i++) if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

/* Whether a placement is better than `best`, or as good and before it. */
static int goes_before(const Rating *r, const Score *score, const i64 *mode, const i64 *tiles, const Start *best) {
    if (!best->known) return 1;
    if (!better_or_equal(score, &best->score)) return 0;
    if (!better_or_equal(&best->score, score)) return 1;
    int order = compare_ints(tiles, best->tiles, r->p->n);
    return order ? order < 0 : compare_ints(mode, best->mode, r->p->n) < 0;
}

/* Simulate until the latency is known to exceed `limit`: 0, or to the end. */
static int simulate_within(Problem *p, const i64 *mode, const i64 *tiles, i64 limit, Result *out) {
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0}, *s = &sim;
    memset(p->load, 0, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) p->load[p->mode_device[p->mode_ptr[v] + mode[v]]] += operator_work(s, v);
    begin_simulation(s, out);
    for (i64 d = 0; d < p->nd; d++) if (p->load[d] > limit) return 0;
    release(s, 0, 0, 0);
    int done = run_candidates(s, limit, out);
    out->order_len = s->count;
    return done;
}

/* Rate a placement and keep it if it goes before `best`. */
static void try_out(const Rating *r, const i64 *mode, const i64 *tiles, Start *best) {
    Problem *p = r->p;
    Result result;
    Score score;
    if (r->objective == INTERVAL) {
        evaluate(p, mode, tiles, r->objective, r->frames, &result);
        score = score_of(p, &result, r->objective, r->budget, r->frames);
        evaluate(p, mode, tiles, r->objective, 2, &result); /* two frames need less memory */
        Score fewer = score_of(p, &result, r->objective, r->budget, 2);
        if (better_or_equal(&fewer, &score)) score = fewer;
    } else {
        i64 limit = best->known ? latest(&best->score, r->objective, r->budget) : INT64_MAX;
        if (!simulate_within(p, mode, tiles, limit, &result)) return;
        if (counts_room(p, r->objective, r->frames)) overflow_alone(p, mode, tiles, &result);
        score = score_of(p, &result, r->objective, r->budget, r->frames);
    }
    if (!goes_before(r, &score, mode, tiles, best)) return;
    best->score = score;
    best->known = 1;
    memmove(best->mode, mode, sizeof(i64) * (size_t)p->n);
    memmove(best->tiles, tiles, sizeof(i64) * (size_t)p->n);
}

/* Move operators of `from` that device d slows down by more than `low` and at most `high`; 1 if there are any. */
static int move_some(const Problem *p, const i64 *from, i64 d, double low, double high, i64 *moved) {
    int any = 0;
    for (i64 v = 0; v < p->n; v++) {
        i64 now = p->mode_ptr[v] + from[v], work = p->mode_work[now] > 1 ? p->mode_work[now] : 1;
        if (p->mode_device[now] == d) continue;
        for (i64 m = p->mode_ptr[v + 1] - 1; m >= p->mode_ptr[v]; m--) {
            if (p->mode_device[m] != d || p->mode_resident[m]) continue;
            double slowdown = (double)p->mode_work[m] / (double)work;
            if (slowdown <= low || slowdown > high) continue;
            moved[v] = m - p->mode_ptr[v];
            any = 1;
        }
    }
    return any;
}

/* `moved`, `from` and `tiles`: room for a placement. */
static void offload(const Rating *r, uint64_t mask, const i64 *finest, Start *best, i64 *moved, i64 *from, i64 *tiles) {
    const Problem *p = r->p;
    size_t bytes = sizeof(i64) * (size_t)p->n;
    for (size_t k = 0; k < sizeof(FINER) / sizeof(FINER[0]); k++) {
        for (i64 v = 0; v < p->n; v++) tiles[v] = p->rows[v] < FINER[k] ? p->rows[v] : FINER[k];
        memcpy(moved, best->mode, bytes);
        try_out(r, moved, tiles, best);
    }
    for (i64 d = 0; d < p->nd; d++) {
        if (!(mask >> d & 1)) continue;
        memcpy(from, best->mode, bytes);
        memcpy(moved, best->mode, bytes);
        for (int level = 1; level < LEVELS; level++) {
            if (!move_some(p, from, d, SLOWDOWNS[level - 1], SLOWDOWNS[level], moved)) continue;
            memcpy(tiles, best->tiles, bytes);
            try_out(r, moved, tiles, best);
            try_out(r, moved, finest, best);
        }
    }
}

static int read_rating(const Rating *r) {
    return read_frames(r->p, r->frames) || (r->objective == INTERVAL && read_frames(r->p, 2)) ? -1 : 0;
}

static PyObject *start_of(const Problem *p, const Start *s) {
    PyObject *tiles = ints_to_list(s->tiles, p->n), *modes = tiles ? ints_to_list(s->mode, p->n) : NULL;
    if (modes) return Py_BuildValue("((ddd)NN)", s->score.late, s->score.primary, s->score.secondary, tiles, modes);
    Py_XDECREF(tiles);
    return NULL;
}

PyObject *Problem_offload(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *finest_in, *out = NULL;
    unsigned long long mask;
    long long budget, frames;
    int objective;
    Start best = {.known = 1};
    Score *score = &best.score;
    if (!PyArg_ParseTuple(args, "(ddd)OOKOiLL", &score->late, &score->primary, &score->secondary, &tiles_in, &modes, &mask,
                          &finest_in, &objective, &budget, &frames))
        return NULL;
    Rating rating = {p, objective, budget, frames};
    i64 *finest = NULL, *moved = NULL, *from = NULL, *tiles = NULL;
    if (read_rating(&rating) || read_choice(p, modes, finest_in, &moved, &finest)) return NULL;
    if (read_choice(p, modes, tiles_in, &best.mode, &best.tiles)) { best.mode = best.tiles = NULL; goto done; }
    if (!(from = zeros(p->n)) || !(tiles = zeros(p->n))) goto done;
    Py_BEGIN_ALLOW_THREADS
    offload(&rating, mask, finest, &best, moved, from, tiles);
    Py_END_ALLOW_THREADS
    out = start_of(p, &best);
done:
    PyMem_Free(finest); PyMem_Free(moved); PyMem_Free(from); PyMem_Free(tiles);
    PyMem_Free(best.mode); PyMem_Free(best.tiles);
    return out;
}

PyObject *Problem_best(Problem *p, PyObject *args) {
    PyObject *seeds, *tilings, *out = NULL;
    long long budget, frames;
    int objective;
    if (!PyArg_ParseTuple(args, "O!O!iLL", &PyList_Type, &seeds, &PyList_Type, &tilings, &objective, &budget, &frames))
        return NULL;
    Rating rating = {p, objective, budget, frames};
    Start best = {0};
    if (!PyList_GET_SIZE(seeds) || !PyList_GET_SIZE(tilings)) {
        PyErr_SetString(PyExc_ValueError, "there is nothing to choose from");
        return NULL;
    }
    if (read_rating(&rating) || !(best.mode = zeros(p->n)) || !(best.tiles = zeros(p->n))) goto done;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(seeds); i++)
        for (Py_ssize_t k = 0; k < PyList_GET_SIZE(tilings); k++) {
            i64 *mode, *tiles;
            if (read_choice(p, PyList_GET_ITEM(seeds, i), PyList_GET_ITEM(tilings, k), &mode, &tiles)) goto done;
            try_out(&rating, mode, tiles, &best);
            PyMem_Free(mode);
            PyMem_Free(tiles);
        }
    out = start_of(p, &best);
done:
    PyMem_Free(best.mode); PyMem_Free(best.tiles);
    return out;
}
