/* Several frames woven together: what comes next on every device, and where, by beam search; see weaving.py. */
#include <stdlib.h>

#include "tasks.h"

#define MAX_STRANDS 8
#define MOST_STATES 100000

/* A state is a row of numbers: by strand the next operator and when it is done so far; by device and channel when it is free; bytes by
 * device; the price of all that; by place of a tensor (see make_places) the device of its producer, its end, and the ends of its copies
 * (0: none). `ready` to `copied`: where these begin. */
typedef struct {
    Problem *p;
    i64 strands, width, ready, free, used, cost, maker, end, copied, whole;
    i64 *cut, *price, *byte_price, *strand, *place, *least, *tail, *scratch;
} Weave;

typedef struct { i64 cost, late, parent, mode, begin; } Child; /* `mode`: of all modes of the problem */

/* When operator v begins in mode m behind all of a state; `keep`: it and the copies for it are done. */
static i64 run_next(const Weave *w, i64 *row, i64 v, i64 m, int keep) {
    Problem *p = w->p;
    i64 d = p->mode_device[m], mem = p->dev_memory[d], begin = row[w->free + d], *free = row + w->free;
    if (!keep) free = memcpy(w->scratch, free, sizeof(i64) * (size_t)(w->used - w->free));
    for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
        i64 t = p->in_tensor[e], u = p->producer[t], place = w->place[t], home = p->io_memory, end = 0, first = p->in_ptr[v];
        while (p->in_tensor[first] != t) first++;
        if (first < e) continue; /* read twice */
        if (u >= 0) {
            if (w->strand[u] != w->strand[v]) continue; /* made in a window before */
            home = p->dev_memory[row[w->maker + place]];
            end = row[w->end + place];
        }
        if (home == mem) end += u >= 0 && row[w->maker + place] != d ? p->handoff : 0;
        else {
            i64 link = p->link_of[home * p->nm + mem], channel = p->nd + link * MAX_CHANNELS + t % p->link_channels[link];
            i64 known = row[w->copied + place * p->nm + mem];
            if (!known) known = free[channel] = most(free[channel], end) + p->xfer_work[link * p->nt + t];
            if (keep) row[w->copied + place * p->nm + mem] = known;
            end = known;
        }
        begin = most(begin, end);
    }
    if (!keep) return begin;
    i64 k = w->strand[v], end = begin + p->mode_work[m];
    row[w->cost] += w->price[d] * (end - free[d]) + w->byte_price[d] * p->mode_resident[m] - w->least[v];
    free[d] = end;
    row[k] = v + 1;
    row[w->ready + k] = most(row[w->ready + k], end);
    row[w->used + d] += p->mode_resident[m];
    for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++) {
        i64 place = w->place[p->out_tensor[i]];
        row[w->maker + place] = d;
        row[w->end + place] = end;
        memset(row + w->copied + place * p->nm, 0, sizeof(i64) * (size_t)p->nm);
    }
    return begin;
}

static int by_cost(const void *a, const void *b) {
    const Child *x = a, *y = b;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    if (x->late != y->late) return x->late < y->late ? -1 : 1;
    if (x->parent != y->parent) return x->parent < y->parent ? -1 : 1;
    return x->mode < y->mode ? -1 : x->mode > y->mode;
}

/* What may come next in a state: what begins before anything could be done; how much. */
static i64 children_of(const Weave *w, i64 *row, i64 parent, Child *out) {
    Problem *p = w->p;
    i64 soonest = INT64_MAX, count = 0, kept = 0;
    for (i64 k = 0; k < w->strands; k++) {
        i64 v = row[k];
        if (v == w->cut[k + 1]) continue;
        for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
            i64 d = p->mode_device[m], bytes = p->mode_resident[m], latest = 0, late = 0;
            if (bytes && row[w->used + d] + bytes > p->dev_capacity[d]) continue;
            i64 begin = run_next(w, row, v, m, 0), end = begin + p->mode_work[m];
            for (i64 j = 0; j < w->strands; j++) {
                i64 next = row[j] + (j == k), done = j == k ? most(row[w->ready + j], end) : row[w->ready + j];
                if (next < w->cut[j + 1]) done += w->tail[next];
                late += done;
                latest = most(latest, done);
            }
            i64 cost = row[w->cost] - w->least[v] + w->price[d] * (end - row[w->free + d]) + w->byte_price[d] * bytes;
            Child child = {most(cost, w->whole * latest), late, parent, m, begin};
            out[count++] = child;
            if (end < soonest) soonest = end;
        }
    }
    for (i64 i = 0; i < count; i++)
        if (out[i].begin < soonest || (out[i].begin == soonest && !p->mode_work[out[i].mode])) out[kept++] = out[i];
    return kept;
}

static int same(const i64 *a, const i64 *b, i64 count) { return !memcmp(a, b, sizeof(i64) * (size_t)count); }

/* The cell of a row, whose rows have the same next operators; -1: there are enough, or one that is as far. `next`: in a cell. */
static i64 cell_of(const Weave *w, const i64 *rows, i64 number, i64 alike, i64 cells, const i64 *head, const i64 *next) {
    const i64 *row = rows + number * w->width;
    uint64_t hash = 1469598103934665603ULL;
    for (i64 k = 0; k < w->strands; k++) hash = (hash ^ (uint64_t)row[k]) * 1099511628211ULL;
    i64 cell = (i64)(hash % (uint64_t)cells), met = 0;
    for (i64 other = head[cell]; other >= 0; other = next[other]) {
        const i64 *there = rows + other * w->width;
        if (!same(row, there, w->strands)) continue;
        if (same(row + w->ready, there + w->ready, w->strands + w->p->nd) || ++met >= alike) return -1;
    }
    return cell;
}

/* The best states with an operator more, in `out`, and how they came about, in `steps`; how many. */
static i64 widen(const Weave *w, i64 *rows, i64 count, i64 beam, i64 alike, Child *children, i64 *out, i64 *links, Child *steps) {
    i64 many = 0, kept = 0, cells = 2 * beam, *head = links, *next = links + cells;
    for (i64 i = 0; i < count; i++) many += children_of(w, rows + i * w->width, i, children + many);
    qsort(children, (size_t)many, sizeof(Child), by_cost);
    for (i64 i = 0; i < cells; i++) head[i] = -1;
    for (i64 i = 0; i < many && kept < beam; i++) {
        i64 *row = out + kept * w->width, m = children[i].mode, k = 0;
        memcpy(row, rows + children[i].parent * w->width, sizeof(i64) * (size_t)w->width);
        while (row[k] == w->cut[k + 1] || m < w->p->mode_ptr[row[k]] || m >= w->p->mode_ptr[row[k] + 1]) k++;
        run_next(w, row, row[k], m, 1);
        i64 cell = cell_of(w, out, kept, alike, cells, head, next);
        if (cell < 0) continue;
        steps[kept] = children[i];
        next[kept] = head[cell];
        head[cell] = kept++;
    }
    return kept;
}

/* --- from and to Python ------------------------------------------------------------------------ */

/* Tensors that live at different times of a strand share a place. How many places; -1: no memory. */
static i64 make_places(const Weave *w) {
    const Problem *p = w->p;
    i64 count = 0, *until = zeros(p->nt), *owner = zeros(p->nt); /* by place: the last reader, and the strand */
    if (!until || !owner) { PyMem_Free(until); PyMem_Free(owner); return -1; }
    for (i64 t = 0; t < p->nt; t++) {
        if (p->producer[t] >= 0) continue;
        until[count] = INT64_MAX;
        w->place[t] = count++;
    }
    for (i64 v = 0; v < p->n; v++)
        for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++) {
            i64 t = p->out_tensor[i], last = v, at = 0;
            for (i64 j = p->cons_ptr[t]; j < p->cons_ptr[t + 1]; j++)
                if (w->strand[p->cons_op[j]] == w->strand[v]) last = most(last, p->cons_op[j]);
            while (at < count && (until[at] >= v || owner[at] != w->strand[v])) at++;
            if (at == count) owner[count++] = w->strand[v];
            until[at] = last;
            w->place[t] = at;
        }
    PyMem_Free(until);
    PyMem_Free(owner);
    return count;
}

static int make_tables(Weave *w) {
    Problem *p = w->p;
    i64 queues = p->nd + p->nl * MAX_CHANNELS;
    if (!(w->strand = zeros(p->n)) || !(w->least = zeros(p->n)) || !(w->tail = zeros(p->n)) || !(w->place = zeros(p->nt)) ||
        !(w->scratch = zeros(queues)))
        return -1;
    for (i64 k = 0; k < w->strands; k++)
        for (i64 v = w->cut[k]; v < w->cut[k + 1]; v++) w->strand[v] = k;
    for (i64 d = 0; d < p->nd; d++) w->whole += w->price[d];
    for (i64 v = p->n - 1; v >= 0; v--) {
        i64 work = INT64_MAX, after = 0;
        w->least[v] = INT64_MAX;
        for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
            i64 d = p->mode_device[m], cost = w->price[d] * p->mode_work[m] + w->byte_price[d] * p->mode_resident[m];
            if (cost < w->least[v]) w->least[v] = cost;
            if (p->mode_work[m] < work) work = p->mode_work[m];
        }
        for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++)
            for (i64 j = p->cons_ptr[p->out_tensor[i]]; j < p->cons_ptr[p->out_tensor[i] + 1]; j++)
                if (w->strand[p->cons_op[j]] == w->strand[v]) after = most(after, w->tail[p->cons_op[j]]);
        w->tail[v] = work + after;
    }
    i64 places = make_places(w), at = w->strands, sizes[] = {w->strands, queues, p->nd, 1, places, places, places * p->nm};
    i64 *fields[] = {&w->ready, &w->free, &w->used, &w->cost, &w->maker, &w->end, &w->copied};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) { *fields[i] = at; at += sizes[i]; }
    w->width = at;
    return places < 0 ? -1 : 0;
}

/* The first of `count` rows whose devices are free soonest, at `ticks`. */
static i64 best_of(const Weave *w, const i64 *rows, i64 count, i64 *ticks) {
    i64 best = -1;
    *ticks = INT64_MAX;
    for (i64 i = 0; i < count; i++) {
        i64 end = 0;
        for (i64 d = 0; d < w->p->nd; d++) end = most(end, rows[i * w->width + w->free + d]);
        if (end < *ticks) { *ticks = end; best = i; }
    }
    return best;
}

static PyObject *to_python(const Weave *w, const Child *steps, i64 beam, i64 at, i64 ticks) {
    const Problem *p = w->p;
    i64 *mode = zeros(p->n), *start = zeros(p->n + p->nt * p->nm), *operator = zeros(p->mode_ptr[p->n]);
    PyObject *out = NULL;
    if (mode && start && operator) {
        for (i64 c = p->n; c < p->n + p->nt * p->nm; c++) start[c] = -1; /* when the first tile is made */
        for (i64 v = 0; v < p->n; v++)
            for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) operator[m] = v;
        for (i64 level = p->n - 1; level >= 0; level--) {
            const Child *step = steps + level * beam + at;
            i64 v = operator[step->mode];
            mode[v] = step->mode - p->mode_ptr[v];
            start[v] = step->begin + w->strand[v] * ticks;
            at = step->parent;
        }
        out = Py_BuildValue("(LNN)", (long long)ticks, ints_to_list(mode, p->n), ints_to_list(start, p->n + p->nt * p->nm));
    }
    PyMem_Free(mode);
    PyMem_Free(start);
    PyMem_Free(operator);
    return out;
}

static PyObject *woven(Weave *w, i64 beam, i64 alike) {
    PyObject *out = NULL;
    i64 fan = 0, count = 1, n = w->p->n, ticks = 0, best = -1, size = (i64)sizeof(i64) * beam * w->width;
    for (i64 v = 0; v < n; v++) fan = most(fan, w->p->mode_ptr[v + 1] - w->p->mode_ptr[v]);
    i64 *rows = malloc((size_t)size), *next = malloc((size_t)size), *links = malloc(sizeof(i64) * (size_t)(3 * beam));
    Child *children = malloc(sizeof(Child) * (size_t)(beam * w->strands * fan + 1)), *steps = malloc(sizeof(Child) * (size_t)(beam * n + 1));
    if (rows && next && links && children && steps) {
        Py_BEGIN_ALLOW_THREADS
        memset(rows, 0, sizeof(i64) * (size_t)w->width);
        memcpy(rows, w->cut, sizeof(i64) * (size_t)w->strands);
        for (i64 v = 0; v < n; v++) rows[w->cost] += w->least[v];
        for (i64 level = 0; level < n && count; level++) {
            count = widen(w, rows, count, beam, alike, children, next, links, steps + level * beam);
            i64 *other = rows;
            rows = next;
            next = other;
        }
        best = best_of(w, rows, count, &ticks);
        Py_END_ALLOW_THREADS
        out = best < 0 ? Py_NewRef(Py_None) : to_python(w, steps, beam, best, ticks);
    } else PyErr_NoMemory();
    free(rows);
    free(next);
    free(links);
    free(children);
    free(steps);
    return out;
}

PyObject *Problem_weave(Problem *p, PyObject *args) {
    PyObject *cuts, *prices, *byte_prices, *out = NULL;
    long long beam, alike;
    if (!PyArg_ParseTuple(args, "OOOLL", &cuts, &prices, &byte_prices, &beam, &alike)) return NULL;
    Weave w = {.p = p, .strands = PySequence_Size(cuts) - 1};
    if (w.strands < 1 || w.strands > MAX_STRANDS || beam < 1 || beam > MOST_STATES || alike < 1) {
        PyErr_SetString(PyExc_ValueError, "1 to 8 strands and 1 to 100000 states are woven");
        return NULL;
    }
    int fine = (w.cut = read_ints(cuts, -1, "cuts")) && (w.price = read_ints(prices, p->nd, "prices")) &&
               (w.byte_price = read_ints(byte_prices, p->nd, "byte prices"));
    if (fine && (w.cut[0] || bad_pointers(w.cut, w.strands, p->n))) {
        PyErr_SetString(PyExc_ValueError, "cuts are not in order");
        fine = 0;
    }
    if (fine && !make_tables(&w)) out = woven(&w, beam, alike);
    i64 *all[] = {w.cut, w.price, w.byte_price, w.strand, w.place, w.least, w.tail, w.scratch};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    return out;
}
