/* Local search for the least initiation interval; see balancing.py. */
#include <math.h>
#include <stdlib.h>

#include "climb.h"
#include "tasks.h"

#define DRAWS 16 /* moves drawn per evaluation: some change nothing, or only give the busiest queue more */
#define HISTORY 30

/* The work of the busiest device, or of a link whose channels share evenly; `load` is scratch. */
static i64 busiest(const Problem *p, const i64 *mode, const i64 *tiles, i64 *load) {
    Sim sim = {.p = (Problem *)p, .mode = mode, .tiles = tiles}, *s = &sim;
    i64 most = 0;
    memset(load, 0, sizeof(i64) * (size_t)(p->nd + p->nl));
    for (i64 v = 0; v < p->n; v++) load[p->mode_device[p->mode_ptr[v] + mode[v]]] += operator_work(s, v);
    for (i64 t = 0; t < p->nt; t++) {
        i64 end = p->cons_ptr[t + 1];
        uint64_t there = (uint64_t)1 << source_memory(s, t);
        for (i64 i = p->cons_ptr[t]; i < end + p->sink[t]; i++) {
            i64 memory = i < end ? memory_of(s, p->cons_op[i]) : p->io_memory, x = t * p->nm + memory;
            if (there >> memory & 1) continue;
            there |= (uint64_t)1 << memory;
            load[p->nd + transfer_link(s, x)] += transfer_work(s, x);
        }
    }
    for (i64 q = 0; q < p->nd + p->nl; q++) {
        i64 work = q < p->nd ? load[q] : ceil_div(load[q], p->link_channels[q - p->nd]);
        if (work > most) most = work;
    }
    return most;
}

/* A placement, in room for its `mode` and `tiles`. */
typedef struct { i64 *mode, *tiles; } Choice;

static void copy_choice(Choice *to, const i64 *mode, const i64 *tiles, i64 n) {
    memcpy(to->mode, mode, sizeof(i64) * (size_t)n);
    memcpy(to->tiles, tiles, sizeof(i64) * (size_t)n);
}

typedef struct {
    i64 evaluations, frames, budget;
    uint64_t seed, mask;
    int objective;
    Tuning *tuning; /* NULL: the order is that of the closed loop */
} Search;

/* Above `limit` something may be left out. */
static void rate(Problem *p, const Search *search, const i64 *mode, const i64 *tiles, double limit, Result *out) {
    if (search->tuning) rate_tuned(p, mode, tiles, search->frames, limit, search->tuning, out);
    else evaluate(p, mode, tiles, search->objective, search->frames, out);
}

/* From the placement in `at` to the best one found, in p->best_mode and p->best_tiles. */
static void balance(Problem *p, const Search *search, i64 *mode, i64 *tiles, Choice *at, i64 *load) {
    Result result;
    uint64_t state = search->seed ? search->seed : 1;
    Choice best = {p->best_mode, p->best_tiles};
    rate(p, search, mode, tiles, INFINITY, &result);
    if (search->tuning) keep_tuned(p, search->tuning, 1);
    Score current = score_of(p, &result, search->objective, search->budget, search->frames), least = current;
    Score past[HISTORY];
    for (i64 i = 0; i < HISTORY; i++) past[i] = current;
    fill_resident(p, mode);
    copy_choice(at, mode, tiles, p->n);
    copy_choice(&best, mode, tiles, p->n);
    i64 done = 0, draws = p->n ? search->evaluations * DRAWS : 0;
    for (; done < search->evaluations && draws > 0; draws--) {
        if (search->tuning ? !move_tuned(p, mode, tiles, search->mask, search->tuning, &state)
                           : !mutate(p, mode, tiles, search->mask, &state))
            continue;
        Score *before = past + done % HISTORY, limit = better_or_equal(before, &current) ? current : *before;
        int accepted = limit.late > 0 || (double)busiest(p, mode, tiles, load) <= limit.primary;
        if (accepted) {
            rate(p, search, mode, tiles, limit.late > 0 ? INFINITY : limit.primary, &result);
            Score next = score_of(p, &result, search->objective, search->budget, search->frames);
            accepted = better_or_equal(&next, &limit);
            done++;
            if (accepted) {
                current = next;
                copy_choice(at, mode, tiles, p->n);
                int good = better_or_equal(&next, &least);
                if (search->tuning) keep_tuned(p, search->tuning, good);
                if (good) {
                    least = next;
                    copy_choice(&best, mode, tiles, p->n);
                }
            }
            *before = current;
        }
        if (!accepted) {
            Choice undone = {mode, tiles};
            copy_choice(&undone, at->mode, at->tiles, p->n);
            fill_resident(p, mode);
        }
    }
}

/* The search on Python's terms; its result, with those of `tuning` if there is one. */
static PyObject *searched(Problem *p, Search *search, i64 *mode, i64 *tiles) {
    PyObject *out = NULL;
    Choice at = {zeros(p->n), zeros(p->n)};
    i64 *load = zeros(p->nd + p->nl);
    if (at.mode && at.tiles && load) {
        Py_BEGIN_ALLOW_THREADS
        balance(p, search, mode, tiles, &at, load);
        Py_END_ALLOW_THREADS
        PyObject *modes = ints_to_list(p->best_mode, p->n), *counts = ints_to_list(p->best_tiles, p->n);
        if (!search->tuning) out = Py_BuildValue("(NN)", modes, counts);
        else out = Py_BuildValue("(NNLN)", modes, counts, (long long)search->tuning->best_period,
                                 ints_to_list(search->tuning->best, p->n + p->nt * p->nm));
    }
    PyMem_Free(at.mode);
    PyMem_Free(at.tiles);
    PyMem_Free(load);
    return out;
}

PyObject *Problem_balance(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in;
    long long evaluations, budget, frames;
    unsigned long long seed, mask;
    int objective;
    if (!PyArg_ParseTuple(args, "OOLKKiLL", &modes, &tiles_in, &evaluations, &seed, &mask, &objective, &budget, &frames))
        return NULL;
    if (objective != INTERVAL && objective != LOAD) {
        PyErr_SetString(PyExc_ValueError, "only several frames in flight are balanced");
        return NULL;
    }
    i64 *mode, *tiles;
    if (read_frames(p, frames) || read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Search search = {evaluations, frames, budget, seed, mask, objective, NULL};
    PyObject *out = searched(p, &search, mode, tiles);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}

PyObject *Problem_tune(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *starts, *out = NULL;
    long long period, evaluations, budget, frames;
    unsigned long long seed, mask;
    i64 *mode, *tiles, tasks = p->n + p->nt * p->nm;
    if (!PyArg_ParseTuple(args, "OOLOLKKLL", &modes, &tiles_in, &period, &starts, &evaluations, &seed, &mask, &budget, &frames))
        return NULL;
    if (read_frames(p, frames) || read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Tuning tuning = {read_ints(starts, tasks, "starts"), zeros(tasks), zeros(tasks), zeros(tasks), period, 0, 0,
                     new_list(tasks), 0, 0, 0};
    Search search = {evaluations, frames, budget, seed, mask, INTERVAL, &tuning};
    i64 known = 0;
    while (tuning.offset && known < p->n && tuning.offset[known] >= 0) known++;
    if (tuning.offset && known < p->n) PyErr_SetString(PyExc_ValueError, "an operator has no start");
    else if (tuning.offset && tuning.next && tuning.best && tuning.stage && tuning.list) {
        begin_tuning(p, mode, tiles, frames, &tuning);
        out = searched(p, &search, mode, tiles);
    }
    PyMem_Free(tuning.offset);
    PyMem_Free(tuning.next);
    PyMem_Free(tuning.best);
    PyMem_Free(tuning.stage);
    free(tuning.list);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}
