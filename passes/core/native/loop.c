/* The tasks of a frame as queues, many frames at a time; see looping.py. */
#include "native.h"

#define MOST_WINDOWS 96
#define LONGEST_PERIOD 6
#define MOST_PASSES 400

enum { QUEUE, TILE_PTR, DURATION, WAIT_PTR, WAIT_TASK, WAIT_LATENCY, COUNTS, ORDER_PTR, ORDER, COLUMNS };

static const char *const NAMES[COLUMNS] = {
    "queue", "tile_ptr", "duration", "wait_ptr", "wait_task", "wait_latency", "counts", "order_ptr", "order",
};

typedef struct {
    PyObject_HEAD
    i64 count, queues, tiles, waits;
    i64 *in[COLUMNS];
    i64 *first_count, *work, *place, *reader_ptr, *reader; /* by wait, by task, by task, CSR of the tasks that wait for one */
} Loop;

static void Loop_dealloc(Loop *s) {
    for (int i = 0; i < COLUMNS; i++) PyMem_Free(s->in[i]);
    i64 *all[] = {s->first_count, s->work, s->place, s->reader_ptr, s->reader};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    Py_TYPE(s)->tp_free((PyObject *)s);
}

static int bad(const char *what) {
    PyErr_Format(PyExc_ValueError, "loop: %s", what);
    return -1;
}

/* Whether `order` has every task once, in its own queue. */
static int is_order(const Loop *s, const i64 *order) {
    i64 *seen = zeros(s->count), fine = seen != NULL;
    for (i64 q = 0; fine && q < s->queues; q++)
        for (i64 i = s->in[ORDER_PTR][q]; fine && i < s->in[ORDER_PTR][q + 1]; i++) {
            i64 t = order[i];
            fine = t >= 0 && t < s->count && s->in[QUEUE][t] == q && !seen[t];
            if (fine) seen[t] = 1;
        }
    PyMem_Free(seen);
    return (int)fine;
}

static int read_waits(Loop *s, i64 counts) {
    i64 **in = s->in, used = 0;
    for (i64 t = 0; t < s->count; t++) {
        i64 tiles = in[TILE_PTR][t + 1] - in[TILE_PTR][t];
        if (tiles < 1 || in[QUEUE][t] < 0 || in[QUEUE][t] >= s->queues) return bad("a task is out of range");
        for (i64 k = in[TILE_PTR][t]; k < in[TILE_PTR][t + 1]; k++) s->work[t] += in[DURATION][k];
        for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++, used += tiles) {
            i64 u = in[WAIT_TASK][w];
            if (u < 0 || u >= s->count || used + tiles > counts) return bad("a wait is out of range");
            i64 most_tiles = in[TILE_PTR][u + 1] - in[TILE_PTR][u];
            for (i64 k = 0; k < tiles; k++)
                if (in[COUNTS][used + k] < 0 || in[COUNTS][used + k] > most_tiles) return bad("a count is out of range");
            s->first_count[w] = used;
            s->reader_ptr[u + 1]++;
        }
    }
    for (i64 t = 0; t < s->count; t++) s->reader_ptr[t + 1] += s->reader_ptr[t];
    i64 *next = zeros(s->count);
    if (!next) return -1;
    for (i64 t = 0; t < s->count; t++)
        for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
            i64 u = in[WAIT_TASK][w];
            s->reader[s->reader_ptr[u] + next[u]++] = t;
        }
    PyMem_Free(next);
    return 0;
}

static int Loop_init(Loop *s, PyObject *args, PyObject *kwargs) {
    PyObject *dict;
    i64 sizes[COLUMNS];
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &dict)) return -1;
    if (s->in[QUEUE]) { PyErr_SetString(PyExc_RuntimeError, "Loop is already initialised"); return -1; }
    for (int i = 0; i < COLUMNS; i++) {
        PyObject *seq = PyDict_GetItemString(dict, NAMES[i]);
        if (!seq) { PyErr_Format(PyExc_KeyError, "%s", NAMES[i]); return -1; }
        if ((sizes[i] = PySequence_Size(seq)) < 0 || !(s->in[i] = read_ints(seq, -1, NAMES[i]))) return -1;
    }
    s->count = sizes[QUEUE];
    s->tiles = sizes[DURATION];
    s->waits = sizes[WAIT_TASK];
    s->queues = sizes[ORDER_PTR] - 1;
    if (s->queues < 0 || sizes[TILE_PTR] != s->count + 1 || sizes[WAIT_PTR] != s->count + 1 || sizes[WAIT_LATENCY] != s->waits ||
        sizes[ORDER] != s->count || bad_pointers(s->in[TILE_PTR], s->count, s->tiles) ||
        bad_pointers(s->in[WAIT_PTR], s->count, s->waits) || bad_pointers(s->in[ORDER_PTR], s->queues, s->count))
        return bad("columns do not fit together");
    if (!(s->first_count = zeros(s->waits)) || !(s->work = zeros(s->count)) || !(s->place = zeros(s->count)) ||
        !(s->reader_ptr = zeros(s->count + 1)) || !(s->reader = zeros(s->waits)))
        return -1;
    if (read_waits(s, sizes[COUNTS])) return -1;
    if (!is_order(s, s->in[ORDER])) return bad("a queue's order lacks a task");
    for (i64 q = 0; q < s->queues; q++)
        for (i64 i = s->in[ORDER_PTR][q]; i < s->in[ORDER_PTR][q + 1]; i++) s->place[s->in[ORDER][i]] = i - s->in[ORDER_PTR][q];
    return 0;
}

/* --- closed loop ------------------------------------------------------------------------------- */

typedef struct { i64 moment, frame, place, task; } Choice; /* the smallest goes next; task -1: there is none */
typedef struct { i64 frame, task; } Instance;

typedef struct {
    const Loop *s;
    i64 window, frames, handicap;
    i64 *waiting, *left, *start, *end, *released, *done, *free, *ready_count;
    Instance *ready; /* by queue: as many as the queue has tasks in a window */
    Choice *best;
    unsigned char *changed;
} Closed;

static i64 *ends_of(const Closed *c, i64 frame, i64 task) { return c->end + frame * c->s->tiles + c->s->in[TILE_PTR][task]; }

/* The tiles of an instance if it runs next on its queue: when the last ends; `ends` (NULL: not wanted) has all. */
static i64 run_next(const Closed *c, i64 frame, i64 task, i64 *ends) {
    i64 *const *in = c->s->in, tiles = in[TILE_PTR][task + 1] - in[TILE_PTR][task];
    i64 moment = most(c->free[in[QUEUE][task]], c->released[frame]);
    for (i64 k = 0; k < tiles; k++) {
        for (i64 w = in[WAIT_PTR][task]; w < in[WAIT_PTR][task + 1]; w++) {
            i64 count = in[COUNTS][c->s->first_count[w] + k];
            if (count) moment = most(moment, ends_of(c, frame, in[WAIT_TASK][w])[count - 1] + in[WAIT_LATENCY][w]);
        }
        moment += in[DURATION][in[TILE_PTR][task] + k];
        if (ends) ends[k] = moment;
    }
    return moment;
}

static int sooner(const Choice *a, const Choice *b) {
    if (a->moment != b->moment) return a->moment < b->moment;
    if (a->frame != b->frame) return a->frame < b->frame;
    if (a->place != b->place) return a->place < b->place;
    return a->task < b->task;
}

static Instance *ready_of(const Closed *c, i64 queue) { return c->ready + c->window * c->s->in[ORDER_PTR][queue]; }

static void choose(Closed *c, i64 queue) {
    Choice best = {0, 0, 0, -1};
    const Instance *ready = ready_of(c, queue);
    for (i64 i = 0; i < c->ready_count[queue]; i++) {
        i64 frame = ready[i].frame, task = ready[i].task;
        Choice choice = {run_next(c, frame, task, NULL) - c->s->work[task] + c->handicap * frame, frame, c->s->place[task], task};
        if (best.task < 0 || sooner(&choice, &best)) best = choice;
    }
    c->best[queue] = best;
    c->changed[queue] = 0;
}

static void make_ready(Closed *c, i64 frame, i64 task) {
    i64 queue = c->s->in[QUEUE][task];
    Instance item = {frame, task};
    ready_of(c, queue)[c->ready_count[queue]++] = item;
    c->changed[queue] = 1;
}

static void admit(Closed *c, i64 frame, i64 moment) {
    c->released[frame] = moment;
    for (i64 t = 0; t < c->s->count; t++)
        if (c->s->in[WAIT_PTR][t] == c->s->in[WAIT_PTR][t + 1]) make_ready(c, frame, t);
}

static void run_instance(Closed *c, i64 queue, i64 frame, i64 task) {
    const Loop *s = c->s;
    i64 *ends = ends_of(c, frame, task), last = run_next(c, frame, task, ends);
    c->start[frame * s->count + task] = ends[0] - s->in[DURATION][s->in[TILE_PTR][task]];
    c->free[queue] = last;
    c->done[frame] = most(c->done[frame], last);
    Instance *ready = ready_of(c, queue);
    i64 i = 0;
    while (ready[i].frame != frame || ready[i].task != task) i++;
    ready[i] = ready[--c->ready_count[queue]];
    c->changed[queue] = 1;
    for (i64 r = s->reader_ptr[task]; r < s->reader_ptr[task + 1]; r++)
        if (!--c->waiting[frame * s->count + s->reader[r]]) make_ready(c, frame, s->reader[r]);
    if (!--c->left[frame] && frame + c->window < c->frames) admit(c, frame + c->window, c->done[frame]);
}

static void run_closed(Closed *c) {
    const Loop *s = c->s;
    for (i64 f = 0; f < c->frames; f++) {
        c->left[f] = s->count;
        for (i64 t = 0; t < s->count; t++) c->waiting[f * s->count + t] = s->in[WAIT_PTR][t + 1] - s->in[WAIT_PTR][t];
    }
    for (i64 f = 0; f < c->window && f < c->frames; f++) admit(c, f, 0);
    for (i64 q = 0; q < s->queues; q++) choose(c, q);
    for (;;) {
        i64 next = -1;
        for (i64 q = 0; q < s->queues; q++)
            if (c->best[q].task >= 0 && (next < 0 || sooner(&c->best[q], &c->best[next]))) next = q;
        if (next < 0) return;
        run_instance(c, next, c->best[next].frame, c->best[next].task);
        for (i64 q = 0; q < s->queues; q++)
            if (c->changed[q]) choose(c, q);
    }
}

static PyObject *rows_of(const i64 *values, i64 rows, const i64 *pointers, i64 width) {
    PyObject *list = PyList_New(rows);
    for (i64 i = 0; list && i < rows; i++) {
        i64 first = pointers ? pointers[i] : i * width, size = pointers ? pointers[i + 1] - first : width;
        PyObject *row = ints_to_list(values + first, size);
        if (!row) { Py_CLEAR(list); break; }
        PyList_SET_ITEM(list, i, row);
    }
    return list;
}

static PyObject *Loop_closed(Loop *s, PyObject *args) {
    long long window, frames, handicap;
    if (!PyArg_ParseTuple(args, "LLL", &window, &frames, &handicap)) return NULL;
    if (!s->reader) { PyErr_SetString(PyExc_RuntimeError, "Loop is not initialised"); return NULL; }
    if (window < 1 || frames < 1 || frames > 4096 || window > 4096) { bad("1 to 4096 frames"); return NULL; }
    Closed c = {.s = s, .window = window, .frames = frames, .handicap = handicap};
    PyObject *result = NULL;
    if ((c.waiting = zeros(frames * s->count)) && (c.left = zeros(frames)) && (c.start = zeros(frames * s->count)) &&
        (c.end = zeros(frames * s->tiles)) && (c.released = zeros(frames)) && (c.done = zeros(frames)) &&
        (c.free = zeros(s->queues)) && (c.ready_count = zeros(s->queues)) && (c.ready = (Instance *)zeros(2 * window * s->count)) &&
        (c.best = (Choice *)zeros(4 * s->queues)) && (c.changed = (unsigned char *)zeros(s->queues))) {
        run_closed(&c);
        result = rows_of(c.start, frames, NULL, s->count);
    }
    void *all[] = {c.waiting, c.left, c.start, c.end, c.released, c.done, c.free, c.ready_count, c.ready, c.best, c.changed};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    return result;
}

/* --- cyclic orders ----------------------------------------------------------------------------- */

typedef struct {
    const Loop *s;
    i64 frames, span;
    i64 *stages, *lags, *before, *last, *sorted; /* `last`: of a queue's first task, the task that ends the window before */
} Cycle;

/* Tasks so that what each waits for within its window comes first; -1: there is a circle. */
static int sort_cycle(Cycle *c) {
    const Loop *s = c->s;
    i64 *const *in = s->in, *pointer = zeros(s->count + 1), *after = zeros(s->waits + s->count), *waiting = zeros(s->count);
    i64 done = 0, known = 0;
    if (pointer && after && waiting) {
        for (int fill = 0; fill < 2; fill++) {
            for (i64 t = 0; t < s->count; t++) {
                for (i64 w = in[WAIT_PTR][t]; w <= in[WAIT_PTR][t + 1]; w++) { /* the last one: the task before it */
                    int own = w == in[WAIT_PTR][t + 1];
                    i64 u = own ? c->before[t] : c->lags[w] ? -1 : in[WAIT_TASK][w];
                    if (u < 0) continue;
                    if (fill) after[pointer[u]++] = t;
                    else { pointer[u + 1]++; waiting[t]++; }
                }
            }
            if (fill) break;
            for (i64 t = 0; t < s->count; t++) pointer[t + 1] += pointer[t];
        }
        for (i64 t = 0; t < s->count; t++)
            if (!waiting[t]) c->sorted[known++] = t;
        for (; done < known; done++) {
            i64 u = c->sorted[done], first = u ? pointer[u - 1] : 0; /* filling moved every pointer to the next one's */
            for (i64 i = first; i < pointer[u]; i++)
                if (!--waiting[after[i]]) c->sorted[known++] = after[i];
        }
    }
    int failed = !pointer || !after || !waiting;
    PyMem_Free(pointer);
    PyMem_Free(after);
    PyMem_Free(waiting);
    if (failed) return -1;
    if (done < s->count) return bad("queue order and waits of a window have a circle");
    return 0;
}

static void end_cycle(Cycle *c) {
    i64 *all[] = {c->stages, c->lags, c->before, c->last, c->sorted};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
}

static int begin_cycle(Cycle *c, const Loop *s, PyObject *order, PyObject *stages, PyObject *lags, i64 frames) {
    memset(c, 0, sizeof(*c));
    c->s = s;
    c->frames = frames;
    if (!s->reader) { PyErr_SetString(PyExc_RuntimeError, "Loop is not initialised"); return -1; }
    if (frames < 1 || frames > 4096) return bad("1 to 4096 frames");
    i64 *queues = read_ints(order, s->count, "order");
    if (!queues) return -1;
    int failed = !is_order(s, queues) ? bad("a queue's order lacks a task") : 0;
    if (!failed && (!(c->stages = read_ints(stages, s->count, "stages")) || !(c->lags = read_ints(lags, s->waits, "lags")) ||
                    !(c->before = zeros(s->count)) || !(c->last = zeros(s->count)) || !(c->sorted = zeros(s->count))))
        failed = -1;
    for (i64 t = 0; !failed && t < s->count; t++) {
        if (c->stages[t] < 0 || c->stages[t] > 4096) failed = bad("a stage is out of range");
        c->span = most(c->span, c->stages[t]);
    }
    for (i64 q = 0; !failed && q < s->queues; q++)
        for (i64 i = s->in[ORDER_PTR][q]; i < s->in[ORDER_PTR][q + 1]; i++) {
            int first = i == s->in[ORDER_PTR][q];
            c->before[queues[i]] = first ? -1 : queues[i - 1];
            if (first) c->last[queues[i]] = queues[s->in[ORDER_PTR][q + 1] - 1];
        }
    PyMem_Free(queues);
    return failed ? failed : sort_cycle(c);
}

static i64 last_end(const Loop *s, const i64 *ends, i64 task) { return ends[s->in[TILE_PTR][task + 1] - 1]; }

typedef struct {
    i64 size, count;        /* windows that are kept, and that there were */
    i64 *ends, *done, *latest; /* tile ends by window; by frame; by window the last end of all */
} History;

static i64 *window_of(const History *h, i64 tiles, i64 number) { return h->ends + number % h->size * tiles; }

/* The next window if everything runs as early as it can. */
static void add_window(const Cycle *c, History *h) {
    const Loop *s = c->s;
    i64 *const *in = s->in, number = h->count, *ends = window_of(h, s->tiles, number);
    h->done[number] = h->latest[number] = 0;
    for (i64 i = 0; i < s->count; i++) {
        i64 t = c->sorted[i], frame = number - c->stages[t], moment = frame >= c->frames ? h->done[frame - c->frames] : 0;
        if (c->before[t] >= 0) moment = most(moment, last_end(s, ends, c->before[t]));
        else if (number) moment = most(moment, last_end(s, window_of(h, s->tiles, number - 1), c->last[t]));
        for (i64 k = in[TILE_PTR][t]; k < in[TILE_PTR][t + 1]; k++) {
            for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
                i64 count = in[COUNTS][s->first_count[w] + k - in[TILE_PTR][t]], lag = c->lags[w];
                if (!count || lag < 0 || lag > number) continue;
                const i64 *past = window_of(h, s->tiles, number - lag);
                moment = most(moment, past[in[TILE_PTR][in[WAIT_TASK][w]] + count - 1] + in[WAIT_LATENCY][w]);
            }
            moment += in[DURATION][k];
            ends[k] = moment;
        }
        if (frame >= 0) h->done[frame] = most(h->done[frame], moment);
        h->latest[number] = most(h->latest[number], moment);
    }
    h->count++;
}

/* By how much every tile ends later than `period` windows ago in the last `windows` windows; -1: not by the same. */
static i64 growth(const Loop *s, const History *h, i64 period, i64 windows) {
    if (h->count < windows + period) return -1;
    i64 first = s->in[TILE_PTR][1] - 1, now = h->count - 1;
    i64 grown = window_of(h, s->tiles, now)[first] - window_of(h, s->tiles, now - period)[first];
    for (i64 back = 0; back < windows; back++) {
        const i64 *new = window_of(h, s->tiles, now - back), *old = window_of(h, s->tiles, now - back - period);
        for (i64 k = 0; k < s->tiles; k++)
            if (new[k] - old[k] != grown) return -1;
    }
    return grown;
}

static i64 ceil_of(i64 a, i64 b) { return (a + b - 1) / b; }

static i64 smallest_interval(const Cycle *c, History *h) {
    i64 reach = c->frames + c->span;
    while (h->count < MOST_WINDOWS) {
        add_window(c, h);
        for (i64 period = 1; period <= LONGEST_PERIOD && period <= h->count - reach - 1; period++) {
            i64 grown = growth(c->s, h, period, reach + 1);
            if (grown >= 0) return most(1, ceil_of(grown, period));
        }
    }
    i64 half = MOST_WINDOWS / 2;
    return most(1, ceil_of(h->latest[MOST_WINDOWS - 1] - h->latest[half], MOST_WINDOWS - 1 - half));
}

static PyObject *Loop_smallest_interval(Loop *s, PyObject *args) {
    PyObject *order, *stages, *lags;
    long long window;
    if (!PyArg_ParseTuple(args, "OOOL", &order, &stages, &lags, &window)) return NULL;
    Cycle c;
    PyObject *result = NULL;
    if (!begin_cycle(&c, s, order, stages, lags, window)) {
        i64 deepest = c.frames + c.span;
        for (i64 w = 0; w < s->waits; w++) deepest = most(deepest, c.lags[w]);
        History h = {.size = deepest + LONGEST_PERIOD + 2};
        if (h.size > MOST_WINDOWS) h.size = MOST_WINDOWS;
        if ((h.ends = zeros(h.size * s->tiles)) && (h.done = zeros(MOST_WINDOWS)) && (h.latest = zeros(MOST_WINDOWS)))
            result = PyLong_FromLongLong(s->count ? smallest_interval(&c, &h) : 1);
        PyMem_Free(h.ends);
        PyMem_Free(h.done);
        PyMem_Free(h.latest);
    }
    end_cycle(&c);
    return result;
}

/* Tile ends within a window that repeat every `interval`, from below; 1: something changed. */
static int pass(const Cycle *c, i64 interval, i64 *ends) {
    const Loop *s = c->s;
    i64 *const *in = s->in, end = INT64_MIN;
    int changed = 0;
    for (i64 t = 0; t < s->count; t++) end = most(end, last_end(s, ends, t) + c->stages[t] * interval);
    for (i64 i = 0; i < s->count; i++) {
        i64 t = c->sorted[i], first = in[TILE_PTR][t], moment = ends[first] - in[DURATION][first];
        moment = most(moment, end - (c->frames + c->stages[t]) * interval);
        if (c->before[t] >= 0) moment = most(moment, last_end(s, ends, c->before[t]));
        else moment = most(moment, last_end(s, ends, c->last[t]) - interval);
        for (i64 k = first; k < in[TILE_PTR][t + 1]; k++) {
            for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
                i64 count = in[COUNTS][s->first_count[w] + k - first];
                if (count) moment = most(moment, ends[in[TILE_PTR][in[WAIT_TASK][w]] + count - 1] + in[WAIT_LATENCY][w] - c->lags[w] * interval);
            }
            moment += in[DURATION][k];
            if (ends[k] != moment) { ends[k] = moment; changed = 1; }
        }
    }
    return changed;
}

static PyObject *Loop_times(Loop *s, PyObject *args) {
    PyObject *order, *stages, *lags;
    long long window, interval;
    if (!PyArg_ParseTuple(args, "OOOLL", &order, &stages, &lags, &window, &interval)) return NULL;
    Cycle c;
    PyObject *result = NULL;
    i64 *ends = NULL;
    if (!begin_cycle(&c, s, order, stages, lags, window) && (ends = zeros(s->tiles))) {
        for (i64 t = 0; t < s->count; t++)
            for (i64 k = s->in[TILE_PTR][t]; k < s->in[TILE_PTR][t + 1]; k++)
                ends[k] = s->in[DURATION][s->in[TILE_PTR][t]] - c.stages[t] * interval;
        int passes = 0;
        while (passes < MOST_PASSES && pass(&c, interval, ends)) passes++;
        result = passes < MOST_PASSES ? rows_of(ends, s->count, s->in[TILE_PTR], 0) : Py_NewRef(Py_None);
    }
    PyMem_Free(ends);
    end_cycle(&c);
    return result;
}

static PyMethodDef Loop_methods[] = {
    {"closed", (PyCFunction)Loop_closed, METH_VARARGS, "The closed loop; see looping.py."},
    {"smallest_interval", (PyCFunction)Loop_smallest_interval, METH_VARARGS, "Of a cyclic order; see looping.py."},
    {"times", (PyCFunction)Loop_times, METH_VARARGS, "Of a cyclic order at an interval; see looping.py."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject LoopType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "h4hc.passes.core._native.Loop",
    .tp_basicsize = sizeof(Loop),
    .tp_dealloc = (destructor)Loop_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The tasks of a frame as queues; see looping.py.",
    .tp_methods = Loop_methods,
    .tp_init = (initproc)Loop_init,
    .tp_new = PyType_GenericNew,
};
