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

/* Buffers, the offsets that first fit gives them, and scratch. */
typedef struct { i64 n; const i64 *starts, *ends, *sizes; i64 *order, *trial, *kept, *offsets; Span *spans; } Fit;

static int begin_fit(Fit *f) {
    f->order = zeros(f->n);
    f->trial = zeros(f->n);
    f->kept = zeros(f->n);
    f->spans = PyMem_Malloc(sizeof(Span) * (size_t)(f->n + 1));
    return f->order && f->trial && f->kept && f->spans ? 0 : -1;
}

static void end_fit(Fit *f) {
    PyMem_Free(f->order); PyMem_Free(f->trial); PyMem_Free(f->kept); PyMem_Free(f->spans);
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

/* What buffers are ordered by: one key after the other, then their number. */
typedef struct { i64 first; uint64_t second; i64 third, id; } Rank;

static int compare_ranks(const void *a, const void *b) {
    const Rank *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    if (x->second != y->second) return x->second < y->second ? -1 : 1;
    if (x->third != y->third) return x->third < y->third ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Larger products first, whatever their bits. */
static void rank_area(Rank *rank, uint64_t a, uint64_t b) {
    uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX), high = (a >> 32) * (b >> 32);
    uint64_t one = (a >> 32) * (b & UINT32_MAX), two = (a & UINT32_MAX) * (b >> 32);
    uint64_t middle = (low >> 32) + (one & UINT32_MAX) + (two & UINT32_MAX);
    rank->first = -(i64)(high + (one >> 32) + (two >> 32) + (middle >> 32));
    rank->second = ~(middle << 32 | (low & UINT32_MAX));
}

#define ORDERS 5 /* that `pack` tries, and a shorter way to write the first of them */
enum { LARGE_THEN_EARLY, EARLY_THEN_LARGE, LONG_THEN_LARGE, AREA_THEN_EARLY, LATE_END_THEN_LARGE, LARGE };

static int order_by(const Fit *f, int kind, i64 *order) {
    Rank *ranks = PyMem_Calloc((size_t)f->n + 1, sizeof(Rank));
    if (!ranks) return -1;
    for (i64 b = 0; b < f->n; b++) {
        i64 start = f->starts[b], end = f->ends[b], size = f->sizes[b];
        Rank *rank = ranks + b;
        rank->id = b;
        rank->third = kind == LARGE ? 0 : kind == LARGE_THEN_EARLY || kind == AREA_THEN_EARLY ? start : -size;
        if (kind == LARGE_THEN_EARLY || kind == LARGE) rank->first = -size;
        if (kind == EARLY_THEN_LARGE) rank->first = start;
        if (kind == LONG_THEN_LARGE) rank->first = start - end;
        if (kind == AREA_THEN_EARLY) rank_area(rank, (uint64_t)size, (uint64_t)(end - start));
        if (kind == LATE_END_THEN_LARGE) rank->first = -end;
    }
    qsort(ranks, (size_t)f->n, sizeof(Rank), compare_ranks);
    for (i64 i = 0; i < f->n; i++) order[i] = ranks[i].id;
    PyMem_Free(ranks);
    return 0;
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

/* A peak that is perhaps lower than that of f->order, which is `peak`; see packing.py. */
static i64 lower_peak(Fit *f, i64 peak, i64 goal, i64 steps) {
    size_t bytes = sizeof(i64) * (size_t)f->n;
    memcpy(f->kept, f->offsets, bytes);
    for (i64 step = 0; step < steps && peak > goal; step++) {
        i64 place = at_peak(f, f->order, peak, step);
        if (place < 0) break;
        i64 target = place * (step % 7) / 7;
        memcpy(f->trial, f->order, bytes);
        memmove(f->trial + target + 1, f->trial + target, sizeof(i64) * (size_t)(place - target));
        f->trial[target] = f->order[place];
        i64 found = place_all(f, f->trial);
        if (found <= peak) {
            i64 *swap = f->order;
            f->order = f->trial; f->trial = swap;
            peak = found;
            memcpy(f->kept, f->offsets, bytes);
        } else {
            memcpy(f->offsets, f->kept, bytes);
        }
    }
    return peak;
}

/* The peak of the offsets that are found for these buffers; -1 without memory. */
static i64 pack_all(Fit *f, i64 goal, i64 steps) {
    i64 best = -1;
    for (int kind = 0; kind < ORDERS; kind++) {
        if (order_by(f, kind, f->trial)) return -1;
        i64 peak = place_all(f, f->trial);
        if (best < 0 || peak < best) {
            i64 *swap = f->order;
            f->order = f->trial; f->trial = swap;
            best = peak;
        }
        if (best <= goal) return best;
    }
    return lower_peak(f, place_all(f, f->order), goal, steps);
}

PyObject *pack(PyObject *self, PyObject *args) {
    PyObject *starts_in, *ends_in, *sizes_in, *out = NULL;
    long long enough, steps;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOLL", &starts_in, &ends_in, &sizes_in, &enough, &steps)) return NULL;
    i64 n = PySequence_Size(starts_in), at, *starts = NULL, *ends = NULL, *sizes = NULL;
    Fit fit = {.n = n};
    if (n < 0 || !(starts = read_ints(starts_in, n, "starts")) || !(ends = read_ints(ends_in, n, "ends")) ||
        !(sizes = read_ints(sizes_in, n, "sizes")) || !(fit.offsets = zeros(n)))
        goto done;
    fit.starts = starts; fit.ends = ends; fit.sizes = sizes;
    i64 bound = most_alive(n, starts, ends, sizes, &at);
    i64 peak = bound < 0 || begin_fit(&fit) ? -1 : pack_all(&fit, bound > enough ? bound : enough, steps);
    if (peak < 0) { PyErr_NoMemory(); goto done; }
    PyObject *offsets = ints_to_list(fit.offsets, n);
    if (offsets) out = Py_BuildValue("(NLL)", offsets, peak, bound);
done:
    end_fit(&fit);
    PyMem_Free(fit.offsets); PyMem_Free(starts); PyMem_Free(ends); PyMem_Free(sizes);
    return out;
}

/* Whether some packing of these buffers stays within `capacity`: 1, 0, or -1 without memory. The first order usually does. */
int fits_within(i64 n, const i64 *starts, const i64 *ends, const i64 *sizes, i64 *offsets, i64 capacity, i64 steps) {
    Fit fit = {.n = n, .starts = starts, .ends = ends, .sizes = sizes, .offsets = offsets};
    i64 peak = -1;
    if (!begin_fit(&fit) && !order_by(&fit, LARGE, fit.order)) {
        peak = place_all(&fit, fit.order);
        if (peak > capacity) peak = pack_all(&fit, capacity, steps);
    }
    end_fit(&fit);
    return peak < 0 ? -1 : peak <= capacity;
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

/* The most bytes alive at once and the first tick at which they are; -1 without memory. */
i64 most_alive(i64 n, const i64 *starts, const i64 *ends, const i64 *sizes, i64 *at) {
    Keyed *events = PyMem_Malloc(sizeof(Keyed) * (size_t)(2 * n + 1));
    i64 live = 0, best = 0;
    *at = 0;
    if (!events) return -1;
    for (i64 i = 0; i < n; i++) {
        events[2 * i] = (Keyed){starts[i], sizes[i], 0};
        events[2 * i + 1] = (Keyed){ends[i], -sizes[i], 0};
    }
    qsort(events, (size_t)(2 * n), sizeof(Keyed), compare_keyed);
    for (i64 i = 0; i < 2 * n; i++) {
        live += events[i].end;
        if (live > best) { best = live; *at = events[i].start; }
    }
    PyMem_Free(events);
    return best;
}

PyObject *peak_bytes(PyObject *self, PyObject *args) {
    PyObject *starts_in, *ends_in, *sizes_in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &starts_in, &ends_in, &sizes_in)) return NULL;
    i64 n = PySequence_Size(starts_in), at = 0, best = -1;
    if (n < 0) return NULL;
    i64 *starts = read_ints(starts_in, n, "starts");
    i64 *ends = starts ? read_ints(ends_in, n, "ends") : NULL;
    i64 *sizes = ends ? read_ints(sizes_in, n, "sizes") : NULL;
    if (sizes && (best = most_alive(n, starts, ends, sizes, &at)) < 0) PyErr_NoMemory();
    PyMem_Free(starts); PyMem_Free(ends); PyMem_Free(sizes);
    return best < 0 ? NULL : Py_BuildValue("(LL)", best, at);
}
