/* Addresses: first fit, exact packing and the peak. */
#include "native.h"

/* --- first fit -------------------------------------------------------------------------------- */

typedef struct { i64 offset, end, born, died; } Span;

/* The first of `count` spans in order of their offsets that starts above `offset`. */
static i64 above(const Span *spans, i64 count, i64 offset) {
    i64 low = 0;
    while (low < count) {
        i64 middle = low + (count - low) / 2;
        if (spans[middle].offset > offset) count = middle; else low = middle + 1;
    }
    return low;
}

/* Buffers, and the offsets that a placement gives them. */
typedef struct { i64 n, *order, *starts, *ends, *sizes, *offsets; Span *spans; } Fit;

static int read_fit(Fit *f, PyObject *order, PyObject *starts, PyObject *ends, PyObject *sizes) {
    f->n = PySequence_Size(order);
    if (f->n < 0 || !(f->order = read_ints(order, f->n, "order")) || !(f->starts = read_ints(starts, f->n, "starts")) ||
        !(f->ends = read_ints(ends, f->n, "ends")) || !(f->sizes = read_ints(sizes, f->n, "sizes")) ||
        !(f->offsets = zeros(f->n)))
        return -1;
    if (!(f->spans = PyMem_Malloc(sizeof(Span) * (size_t)(f->n + 1)))) { PyErr_NoMemory(); return -1; }
    for (i64 i = 0; i < f->n; i++)
        if (f->order[i] < 0 || f->order[i] >= f->n) { PyErr_SetString(PyExc_ValueError, "order out of range"); return -1; }
    return 0;
}

static void end_fit(Fit *f) {
    PyMem_Free(f->order); PyMem_Free(f->starts); PyMem_Free(f->ends); PyMem_Free(f->sizes);
    PyMem_Free(f->offsets); PyMem_Free(f->spans);
}

/* Places all buffers by first fit in `order`; the peak. */
static i64 place_all(Fit *f, const i64 *order) {
    Span *spans = f->spans;
    i64 peak = 0;
    for (i64 i = 0; i < f->n; i++) {
        i64 b = order[i], at = 0, size = f->sizes[b], start = f->starts[b], end = f->ends[b];
        for (i64 j = 0; j < i && spans[j].offset - at < size; j++)
            if (spans[j].born < end && start < spans[j].died && spans[j].end > at) at = spans[j].end;
        i64 place = above(spans, i, at);
        memmove(spans + place + 1, spans + place, sizeof(Span) * (size_t)(i - place));
        spans[place] = (Span){at, at + size, start, end};
        f->offsets[b] = at;
        if (at + size > peak) peak = at + size;
    }
    return peak;
}

PyObject *first_fit(PyObject *self, PyObject *args) {
    PyObject *order, *starts, *ends, *sizes, *out = NULL;
    Fit fit = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOO", &order, &starts, &ends, &sizes)) return NULL;
    if (!read_fit(&fit, order, starts, ends, sizes)) {
        i64 peak = place_all(&fit, fit.order);
        PyObject *offsets = ints_to_list(fit.offsets, fit.n);
        if (offsets) out = Py_BuildValue("(NL)", offsets, peak);
    }
    end_fit(&fit);
    return out;
}

/* The `number`-th buffer in `order`, of those that touch `peak`, round and round: its place. None: -1. */
static i64 at_peak(const Fit *f, const i64 *order, i64 peak, i64 number) {
    i64 count = 0;
    for (i64 i = 0; i < f->n; i++) count += f->offsets[order[i]] + f->sizes[order[i]] == peak;
    i64 wanted = count ? number % count : 0;
    for (i64 i = 0; count && i < f->n; i++)
        if (f->offsets[order[i]] + f->sizes[order[i]] == peak && wanted-- == 0) return i;
    return -1;
}

PyObject *lower_peak(PyObject *self, PyObject *args) {
    PyObject *order, *starts, *ends, *sizes, *out = NULL;
    long long goal, steps;
    Fit fit = {0}, *f = &fit;
    i64 *trial = NULL, *best = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOLL", &order, &starts, &ends, &sizes, &goal, &steps)) return NULL;
    if (read_fit(f, order, starts, ends, sizes) || !(trial = zeros(f->n)) || !(best = zeros(f->n))) goto done;
    i64 peak = place_all(f, f->order);
    memcpy(best, f->offsets, sizeof(i64) * (size_t)f->n);
    for (i64 step = 0; step < steps && peak > goal; step++) {
        i64 place = at_peak(f, f->order, peak, step);
        if (place < 0) break;
        i64 target = place * (step % 7) / 7;
        memcpy(trial, f->order, sizeof(i64) * (size_t)f->n);
        memmove(trial + target + 1, trial + target, sizeof(i64) * (size_t)(place - target));
        trial[target] = f->order[place];
        i64 found = place_all(f, trial);
        if (found <= peak) {
            i64 *swap = f->order;
            f->order = trial; trial = swap;
            peak = found;
            memcpy(best, f->offsets, sizeof(i64) * (size_t)f->n);
        } else {
            memcpy(f->offsets, best, sizeof(i64) * (size_t)f->n);
        }
    }
    PyObject *offsets = ints_to_list(best, f->n);
    if (offsets) out = Py_BuildValue("(NL)", offsets, peak);
done:
    PyMem_Free(trial); PyMem_Free(best);
    end_fit(f);
    return out;
}

/* --- exact packing ------------------------------------------------------------------------------ */

typedef struct {
    i64 n, sections, capacity, budget, used;
    i64 *order, *first, *count, *size; /* of the buffers */
    i64 *floor, *left;                 /* of the sections: top of what is placed, bytes that are not yet */
    i64 *offset, *placed, *at, *saved; /* at, saved: a row per depth */
} Pack;

static i64 wrapped(i64 section, i64 sections) { return section < sections ? section : section - sections; }

/* Whether every section still has room for its buffers, none of which comes to lie below `base`. */
static int has_room(const Pack *s, i64 base) {
    for (i64 k = 0; k < s->sections; k++)
        if (s->left[k] > 0 && (s->floor[k] > base ? s->floor[k] : base) + s->left[k] > s->capacity) return 0;
    return 1;
}

/* 1: the other buffers are placed; 0: they cannot be; -1: out of budget. */
static int pack_rest(Pack *s, i64 depth, i64 base) {
    if (depth == s->n) return 1;
    if (s->used >= s->budget) return -1;
    s->used++;
    i64 *at = s->at + depth * s->n, *saved = s->saved + depth * s->sections, lowest = INT64_MAX;
    for (i64 b = 0; b < s->n; b++) {
        if (s->placed[b]) continue;
        at[b] = base;
        for (i64 k = 0; k < s->count[b]; k++) {
            i64 top = s->floor[wrapped(s->first[b] + k, s->sections)];
            if (top > at[b]) at[b] = top;
        }
        if (at[b] + s->size[b] > s->capacity) return 0;
        if (at[b] + s->size[b] < lowest) lowest = at[b] + s->size[b];
    }
    for (i64 i = 0; i < s->n; i++) {
        i64 b = s->order[i];
        if (s->placed[b] || at[b] >= lowest) continue;
        for (i64 k = 0; k < s->count[b]; k++) {
            i64 section = wrapped(s->first[b] + k, s->sections);
            saved[k] = s->floor[section];
            s->floor[section] = at[b] + s->size[b];
            s->left[section] -= s->size[b];
        }
        s->placed[b] = 1;
        s->offset[b] = at[b];
        int found = has_room(s, at[b]) ? pack_rest(s, depth + 1, at[b]) : 0;
        if (found) return found;
        s->placed[b] = 0;
        for (i64 k = 0; k < s->count[b]; k++) {
            i64 section = wrapped(s->first[b] + k, s->sections);
            s->floor[section] = saved[k];
            s->left[section] += s->size[b];
        }
    }
    return 0;
}

PyObject *pack_within(PyObject *self, PyObject *args) {
    PyObject *order_in, *first_in, *count_in, *sizes_in, *out = NULL;
    Pack s = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOLLL", &order_in, &first_in, &count_in, &sizes_in, &s.sections, &s.capacity,
                          &s.budget))
        return NULL;
    s.n = PySequence_Size(order_in);
    if (s.n < 0) return NULL;
    if (!(s.order = read_ints(order_in, s.n, "order")) || !(s.first = read_ints(first_in, s.n, "first")) ||
        !(s.count = read_ints(count_in, s.n, "count")) || !(s.size = read_ints(sizes_in, s.n, "sizes")))
        goto done;
    for (i64 b = 0; b < s.n; b++)
        if (s.order[b] < 0 || s.order[b] >= s.n || s.first[b] < 0 || s.first[b] >= s.sections || s.count[b] < 1 ||
            s.count[b] > s.sections || s.size[b] < 1) {
            PyErr_SetString(PyExc_ValueError, "pack_within: a buffer without bytes or outside the sections");
            goto done;
        }
    if (!(s.floor = zeros(s.sections)) || !(s.left = zeros(s.sections)) || !(s.offset = zeros(s.n)) ||
        !(s.placed = zeros(s.n)) || !(s.at = zeros(s.n * s.n)) || !(s.saved = zeros(s.n * s.sections)))
        goto done;
    for (i64 b = 0; b < s.n; b++)
        for (i64 k = 0; k < s.count[b]; k++) s.left[wrapped(s.first[b] + k, s.sections)] += s.size[b];
    int found = has_room(&s, 0) ? pack_rest(&s, 0, 0) : 0;
    PyObject *offsets = ints_to_list(s.offset, found == 1 ? s.n : 0);
    if (offsets) out = Py_BuildValue("(iN)", found, offsets);
done:
    PyMem_Free(s.order); PyMem_Free(s.first); PyMem_Free(s.count); PyMem_Free(s.size); PyMem_Free(s.floor);
    PyMem_Free(s.left); PyMem_Free(s.offset); PyMem_Free(s.placed); PyMem_Free(s.at); PyMem_Free(s.saved);
    return out;
}

/* --- the most bytes alive at once --------------------------------------------------------------- */

int compare_keyed(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

PyObject *peak_bytes(PyObject *self, PyObject *args) {
    PyObject *starts_in, *ends_in, *sizes_in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &starts_in, &ends_in, &sizes_in)) return NULL;
    i64 n = PySequence_Size(starts_in), live = 0, best = 0, at = 0;
    i64 *starts = read_ints(starts_in, n, "starts");
    i64 *ends = starts ? read_ints(ends_in, n, "ends") : NULL;
    i64 *sizes = ends ? read_ints(sizes_in, n, "sizes") : NULL;
    Keyed *events = sizes ? PyMem_Malloc(sizeof(Keyed) * (size_t)(2 * n + 1)) : NULL;
    if (!events) {
        PyMem_Free(starts); PyMem_Free(ends); PyMem_Free(sizes);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    for (i64 i = 0; i < n; i++) {
        events[2 * i] = (Keyed){starts[i], sizes[i], 0};
        events[2 * i + 1] = (Keyed){ends[i], -sizes[i], 0};
    }
    qsort(events, (size_t)(2 * n), sizeof(Keyed), compare_keyed);
    for (i64 i = 0; i < 2 * n; i++) {
        live += events[i].end;
        if (live > best) { best = live; at = events[i].start; }
    }
    PyMem_Free(starts); PyMem_Free(ends); PyMem_Free(sizes); PyMem_Free(events);
    return Py_BuildValue("(LL)", best, at);
}
