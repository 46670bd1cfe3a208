/* Schedules in which fetches bring weights to a device before their operator starts; see fetching.py. */
#include "native.h"

enum { QUEUE, WORK, TILES, FETCH_PORT, FETCH_TICKS, FETCH_MEMORY, FETCH_BYTES, FETCH_WORK, PER_TASK,
       WAIT_PTR = PER_TASK, PORT_PTR, KEPT_PTR, WAIT_TASK, WAIT_LATENCY, COUNTS, PORT, KEPT, LOAD, ROOM, COLUMNS };

static const char *const NAMES[COLUMNS] = {
    "queue", "work", "tiles", "fetch_port", "fetch_ticks", "fetch_memory", "fetch_bytes", "fetch_work", "wait_ptr",
    "port_ptr", "kept_ptr", "wait_task", "wait_latency", "counts", "port", "kept", "load", "room",
};

typedef struct {
    PyObject_HEAD
    i64 count, memories, queues, ports;
    i64 *in[COLUMNS];
    i64 *first_count, *first_tile; /* by wait, by task */
    /* scratch */
    i64 *tile_end, *other_end, *start, *end, *latest, *free, *fetched_until, *used_until, *held, *fetches, *wanted;
} Line;

typedef struct { i64 start, end, behind; } Fetch;

static void Line_dealloc(Line *s) {
    for (int i = 0; i < COLUMNS; i++) PyMem_Free(s->in[i]);
    i64 *all[] = {s->first_count, s->first_tile, s->tile_end, s->other_end, s->start, s->end, s->latest, s->free,
                  s->fetched_until, s->used_until, s->held, s->fetches, s->wanted};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    Py_TYPE(s)->tp_free((PyObject *)s);
}

static int bad(const char *what) {
    PyErr_Format(PyExc_ValueError, "line: %s", what);
    return -1;
}

static int read_line(Line *s, PyObject *dict) {
    i64 sizes[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        PyObject *seq = PyDict_GetItemString(dict, NAMES[i]);
        if (!seq) { PyErr_Format(PyExc_KeyError, "%s", NAMES[i]); return -1; }
        if ((sizes[i] = PySequence_Size(seq)) < 0) return -1;
        i64 expected = i < PER_TASK ? sizes[QUEUE] : i <= KEPT_PTR ? sizes[QUEUE] + 1 : -1;
        if (!(s->in[i] = read_ints(seq, expected, NAMES[i]))) return -1;
    }
    s->count = sizes[QUEUE];
    s->memories = sizes[ROOM];
    i64 **in = s->in, counts = 0, tiles = 0;
    if (bad_pointers(in[WAIT_PTR], s->count, sizes[WAIT_TASK]) || bad_pointers(in[PORT_PTR], s->count, sizes[PORT]) ||
        bad_pointers(in[KEPT_PTR], s->count, sizes[KEPT]) || sizes[WAIT_LATENCY] != sizes[WAIT_TASK] ||
        sizes[LOAD] != s->count * s->memories)
        return bad("columns do not fit together");
    if (!(s->first_count = zeros(sizes[WAIT_TASK] + 1)) || !(s->first_tile = zeros(s->count + 1))) return -1;
    for (i64 t = 0; t < s->count; t++) {
        if (in[TILES][t] < 1 || in[TILES][t] > MAX_TILES || in[QUEUE][t] < 0 || in[FETCH_PORT][t] < -1) return bad("a task is out of range");
        if (in[FETCH_PORT][t] >= 0 && (in[FETCH_MEMORY][t] < 0 || in[FETCH_MEMORY][t] >= s->memories)) return bad("a memory is out of range");
        s->queues = most(s->queues, in[QUEUE][t] + 1);
        s->ports = most(s->ports, in[FETCH_PORT][t] + 1);
        s->first_tile[t] = tiles;
        tiles += in[TILES][t];
        for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++, counts += in[TILES][t]) {
            i64 u = in[WAIT_TASK][w];
            if (u < 0 || u >= t || counts + in[TILES][t] > sizes[COUNTS]) return bad("a wait is out of range");
            for (i64 k = 0; k < in[TILES][t]; k++)
                if (in[COUNTS][counts + k] < 0 || in[COUNTS][counts + k] > in[TILES][u]) return bad("a count is out of range");
            s->first_count[w] = counts;
        }
    }
    for (int i = PORT; i <= KEPT; i++)
        for (i64 k = 0; k < sizes[i]; k++) {
            if (in[i][k] < 0) return bad("a port is out of range");
            s->ports = most(s->ports, in[i][k] + 1);
        }
    return (s->tile_end = zeros(tiles)) && (s->other_end = zeros(MAX_TILES)) && (s->start = zeros(s->count)) &&
           (s->end = zeros(s->count)) && (s->latest = zeros(s->count)) && (s->free = zeros(s->queues)) &&
           (s->fetched_until = zeros(s->ports)) && (s->used_until = zeros(s->ports)) &&
           (s->held = zeros(s->count * s->memories)) && (s->fetches = zeros(4 * s->count)) && (s->wanted = zeros(s->count)) ? 0 : -1;
}

static int Line_init(Line *s, PyObject *args, PyObject *kwargs) {
    PyObject *dict;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &dict)) return -1;
    if (s->in[QUEUE]) { PyErr_SetString(PyExc_RuntimeError, "Line is already initialised"); return -1; }
    return read_line(s, dict);
}

/* Whether there is room for the weights of task `t` while it runs, and when they can be fetched. */
static int find_fetch(const Line *s, i64 t, Fetch *out) {
    i64 *const *in = s->in, port = in[FETCH_PORT][t], base = in[FETCH_MEMORY][t] * s->count;
    const i64 *load = in[LOAD] + base, *held = s->held + base;
    i64 room = in[ROOM][in[FETCH_MEMORY][t]] - in[FETCH_BYTES][t];
    if (load[t] + held[t] > room) return 0;
    i64 begin = most(s->fetched_until[port], s->used_until[port]);
    out->behind = -1;
    for (i64 u = t - 1; u >= 0 && s->latest[u] > begin; u--)
        if (s->end[u] > begin && load[u] + held[u] > room) { begin = s->end[u]; out->behind = u; }
    out->start = begin;
    out->end = begin + in[FETCH_TICKS][t];
    return 1;
}

/* Runs the tiles of task `t` into `ends`; returns its start. */
static i64 run_tiles(const Line *s, i64 t, const Fetch *fetch, i64 *ends) {
    i64 *const *in = s->in, now = s->free[in[QUEUE][t]], work = in[fetch ? FETCH_WORK : WORK][t], start = 0;
    const i64 *pointers = in[fetch ? KEPT_PTR : PORT_PTR], *ports = in[fetch ? KEPT : PORT], tiles = in[TILES][t];
    if (fetch) now = most(now, fetch->end);
    for (i64 i = pointers[t]; i < pointers[t + 1]; i++) now = most(now, s->fetched_until[ports[i]]);
    for (i64 k = 0; k < tiles; k++) {
        i64 begin = now;
        for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
            i64 count = in[COUNTS][s->first_count[w] + k];
            if (count) begin = most(begin, s->tile_end[s->first_tile[in[WAIT_TASK][w]] + count - 1] + in[WAIT_LATENCY][w]);
        }
        if (!k) start = begin;
        ends[k] = now = begin + work * (k + 1) / tiles - work * k / tiles;
    }
    return start;
}

static void commit(Line *s, i64 t, const Fetch *fetch, i64 start, i64 *fetches) {
    i64 *const *in = s->in, end = s->tile_end[s->first_tile[t] + in[TILES][t] - 1];
    s->start[t] = start;
    s->end[t] = end;
    s->latest[t] = most(end, t ? s->latest[t - 1] : 0);
    s->free[in[QUEUE][t]] = end;
    if (fetch) {
        i64 *row = s->fetches + 4 * (*fetches)++, *held = s->held + in[FETCH_MEMORY][t] * s->count;
        row[0] = t; row[1] = fetch->start; row[2] = fetch->end; row[3] = fetch->behind;
        s->fetched_until[in[FETCH_PORT][t]] = fetch->end;
        held[t] += in[FETCH_BYTES][t];
        for (i64 u = t - 1; u >= 0 && s->latest[u] > fetch->start; u--)
            if (s->end[u] > fetch->start) held[u] += in[FETCH_BYTES][t];
    }
    const i64 *pointers = in[fetch ? KEPT_PTR : PORT_PTR], *ports = in[fetch ? KEPT : PORT];
    for (i64 i = pointers[t]; i < pointers[t + 1]; i++) s->used_until[ports[i]] = most(s->used_until[ports[i]], end);
}

/* `choosing`: fetch where the task ends no later by it, instead of where it is wanted. Returns the number of fetches. */
static i64 evaluate(Line *s, int choosing) {
    i64 fetches = 0;
    memset(s->free, 0, sizeof(i64) * (size_t)s->queues);
    memset(s->fetched_until, 0, sizeof(i64) * (size_t)s->ports);
    memset(s->used_until, 0, sizeof(i64) * (size_t)s->ports);
    memset(s->held, 0, sizeof(i64) * (size_t)(s->count * s->memories));
    for (i64 t = 0; t < s->count; t++) {
        Fetch found;
        i64 *ends = s->tile_end + s->first_tile[t], last = s->in[TILES][t] - 1;
        int fetched = s->in[FETCH_PORT][t] >= 0 && (choosing || s->wanted[t]) && find_fetch(s, t, &found);
        i64 start = run_tiles(s, t, fetched ? &found : NULL, ends);
        if (fetched && choosing) {
            i64 other = run_tiles(s, t, NULL, s->other_end);
            if (s->other_end[last] < ends[last]) {
                memcpy(ends, s->other_end, sizeof(i64) * (size_t)(last + 1));
                start = other;
                fetched = 0;
            }
        }
        commit(s, t, fetched ? &found : NULL, start, &fetches);
    }
    return fetches;
}

static PyObject *Line_timed(Line *s, PyObject *wanted) {
    if (!s->wanted) { PyErr_SetString(PyExc_RuntimeError, "Line is not initialised"); return NULL; }
    if (wanted != Py_None) {
        i64 count = PySequence_Size(wanted), *tasks = count < 0 ? NULL : read_ints(wanted, count, "wanted");
        if (!tasks) return NULL;
        memset(s->wanted, 0, sizeof(i64) * (size_t)s->count);
        for (i64 i = 0; i < count; i++)
            if (tasks[i] >= 0 && tasks[i] < s->count) s->wanted[tasks[i]] = 1;
        PyMem_Free(tasks);
    }
    i64 fetches = evaluate(s, wanted == Py_None);
    PyObject *starts = ints_to_list(s->start, s->count), *ends = starts ? ints_to_list(s->end, s->count) : NULL;
    PyObject *rows = ends ? PyList_New(fetches) : NULL;
    for (i64 i = 0; rows && i < fetches; i++) {
        i64 *row = s->fetches + 4 * i;
        PyObject *item = Py_BuildValue("(LLLL)", row[0], row[1], row[2], row[3]);
        if (!item) { Py_CLEAR(rows); break; }
        PyList_SET_ITEM(rows, i, item);
    }
    if (rows) return Py_BuildValue("(NNN)", starts, ends, rows);
    Py_XDECREF(starts);
    Py_XDECREF(ends);
    return NULL;
}

static PyMethodDef Line_methods[] = {
    {"timed", (PyCFunction)Line_timed, METH_O, "The schedule with fetches; see fetching.py."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject LineType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "h4hc.passes.core._native.Line",
    .tp_basicsize = sizeof(Line),
    .tp_dealloc = (destructor)Line_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The tasks of a schedule; see fetching.py.",
    .tp_methods = Line_methods,
    .tp_init = (initproc)Line_init,
    .tp_new = PyType_GenericNew,
};
