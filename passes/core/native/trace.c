/* A schedule as Python objects: when its tasks run, and which buffers there are. */
#include "tasks.h"

/* Simulate, in the order of a Python sequence unless it is None; -1 and an exception if the order is none. */
int simulate_asked(Problem *p, const i64 *mode, const i64 *tiles, PyObject *order, Result *out) {
    if (!order || order == Py_None) {
        simulate(p, mode, tiles, out);
        return 0;
    }
    Py_ssize_t length = PySequence_Size(order);
    i64 *values = length < 0 ? NULL : read_ints(order, length, "order");
    if (!values) return -1;
    const char *error = simulate_in_order(p, mode, tiles, values, length, out);
    PyMem_Free(values);
    if (error) PyErr_SetString(PyExc_ValueError, error);
    return error ? -1 : 0;
}

/* Lifetimes of all buffers of the schedule just simulated; -1 in `first` where there is no buffer. */
static void fill_lifetimes(const Sim *s, const Result *r, i64 *first, i64 *last) {
    const Problem *p = s->p;
    for (i64 x = 0; x < p->nt * p->nm; x++) first[x] = -1;
    for (i64 t = 0; t < p->nt; t++) {
        i64 u = p->producer[t], x = t * p->nm + source_memory(s, t);
        first[x] = u < 0 ? 0 : p->op_start[u];
        last[x] = u < 0 ? 0 : p->op_end[u];
    }
    for (i64 x = 0; x < p->nt * p->nm; x++) {
        if (p->xf_state[x] != XF_DONE) continue;
        i64 home = x / p->nm * p->nm + source_memory(s, x / p->nm);
        first[x] = p->xf_start[x];
        last[x] = p->xf_end[x];
        if (p->xf_end[x] > last[home]) last[home] = p->xf_end[x];
    }
    for (i64 v = 0; v < p->n; v++)
        for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
            i64 x = p->in_tensor[e] * p->nm + memory_of(s, v);
            if (p->op_end[v] > last[x]) last[x] = p->op_end[v];
        }
    for (i64 t = 0; t < p->nt; t++)
        if (p->sink[t]) last[t * p->nm + p->io_memory] = r->latency;
}

static PyObject *task_rows(const Problem *p, const Result *r) {
    PyObject *rows = PyList_New(r->order_len);
    if (!rows) return NULL;
    for (i64 i = 0; i < r->order_len; i++) {
        i64 c = p->order[i], x = c - p->n;
        PyObject *row;
        if (c < p->n)
            row = Py_BuildValue("(LLLLL)", c, (i64)-1, (i64)-1, p->op_start[c], p->op_end[c]);
        else
            row = Py_BuildValue("(LLLLL)", x / p->nm, x % p->nm, p->xf_channel[x] % MAX_CHANNELS, p->xf_start[x],
                                p->xf_end[x]);
        if (!row) { Py_DECREF(rows); return NULL; }
        PyList_SET_ITEM(rows, i, row);
    }
    return rows;
}

PyObject *Problem_trace(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *order = NULL;
    if (!PyArg_ParseTuple(args, "OO|O", &modes, &tiles_in, &order)) return NULL;
    i64 *mode, *tiles;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Result result;
    if (simulate_asked(p, mode, tiles, order, &result)) {
        PyMem_Free(mode);
        PyMem_Free(tiles);
        return NULL;
    }
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    i64 *first = zeros(p->nt * p->nm), *last = zeros(p->nt * p->nm);
    PyObject *rows = NULL, *buffers = NULL, *out = NULL;
    if (!first || !last || !(rows = task_rows(p, &result)) || !(buffers = PyList_New(0))) goto done;
    fill_lifetimes(&sim, &result, first, last);
    for (i64 x = 0; x < p->nt * p->nm; x++) {
        if (first[x] < 0) continue;
        PyObject *row = Py_BuildValue("(LLLL)", x / p->nm, x % p->nm, first[x], last[x]);
        if (!row || PyList_Append(buffers, row)) { Py_XDECREF(row); goto done; }
        Py_DECREF(row);
    }
    out = Py_BuildValue("(LLKOO)", result.latency, result.energy, result.used, rows, buffers);
done:
    Py_XDECREF(rows);
    Py_XDECREF(buffers);
    PyMem_Free(first);
    PyMem_Free(last);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}
