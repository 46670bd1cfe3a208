/* What the tasks of a trace do; see contents.py. */
#include "tasks.h"

/* The numbers of tasks and buffers: of operators, and of copies by tensor * memories + memory. -1: there is none. `wait`: of
 * which all waits are copies, but for task, counts and latency. */
typedef struct { i64 *task, *transfer, *buffer; PyObject *wait; } Numbers;

enum { TASK, COUNTS, LATENCY, REST }; /* fields of a wait */

static i64 *unknown(i64 n) {
    i64 *values = zeros(n);
    for (i64 i = 0; values && i < n; i++) values[i] = -1;
    return values;
}

/* Item `k` of a row. */
static i64 item(PyObject *row, Py_ssize_t k) {
    if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) <= k) {
        PyErr_SetString(PyExc_TypeError, "contents: a row of a trace is a tuple");
        return -1;
    }
    return PyLong_AsLongLong(PyTuple_GET_ITEM(row, k));
}

/* Number the rows of tasks or, if `task` is NULL, of buffers. -1 and an exception if one is out of range. */
static int number(const Problem *p, PyObject *rows, i64 *task, i64 *copy) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(rows); i++) {
        i64 index = item(PyList_GET_ITEM(rows, i), 0), memory = item(PyList_GET_ITEM(rows, i), 1);
        if (PyErr_Occurred()) return -1;
        int copied = memory >= 0 || !task;
        if (index < 0 || index >= (copied ? p->nt : p->n) || memory >= p->nm || (memory < 0 && copied)) {
            PyErr_SetString(PyExc_ValueError, "contents: a row of no trace of this problem");
            return -1;
        }
        if (copied) copy[index * p->nm + memory] = i;
        else task[index] = i;
    }
    return 0;
}

/* A tuple of the numbers of the buffers of `tensors` in `memory`. */
static PyObject *buffers_of(const Problem *p, const Numbers *at, const i64 *tensors, i64 count, i64 memory) {
    PyObject *out = PyTuple_New(count);
    for (i64 i = 0; out && i < count; i++) {
        PyObject *value = PyLong_FromLongLong(at->buffer[tensors[i] * p->nm + memory]);
        if (!value) { Py_DECREF(out); return NULL; }
        PyTuple_SET_ITEM(out, i, value);
    }
    return out;
}

/* A wait for task `source`: tile k for `needed[k]` tiles. */
static PyObject *wait_for(const Numbers *at, i64 source, const i64 *needed, i64 tiles, i64 latency) {
    PyTypeObject *type = Py_TYPE(at->wait);
    Py_ssize_t fields = PyTuple_GET_SIZE(at->wait);
    PyObject *wait = type->tp_alloc(type, fields), *counts = wait ? PyTuple_New(tiles) : NULL;
    if (!counts) { Py_XDECREF(wait); return NULL; }
    for (Py_ssize_t i = REST; i < fields; i++) {
        PyObject *value = PyTuple_GET_ITEM(at->wait, i);
        Py_INCREF(value);
        PyTuple_SET_ITEM(wait, i, value);
    }
    PyTuple_SET_ITEM(wait, COUNTS, counts);
    PyTuple_SET_ITEM(wait, TASK, PyLong_FromLongLong(source));
    PyTuple_SET_ITEM(wait, LATENCY, PyLong_FromLongLong(latency));
    for (i64 k = 0; k < tiles; k++) PyTuple_SET_ITEM(counts, k, PyLong_FromLongLong(needed[k]));
    if (PyErr_Occurred()) Py_CLEAR(wait);
    return wait;
}

/* The waits of operator v as a tuple. */
static PyObject *waits_of(const Sim *s, const Numbers *at, i64 v) {
    const Problem *p = s->p;
    i64 d = p->mode_device[p->mode_ptr[v] + s->mode[v]], here = p->dev_memory[d], needed[MAX_TILES];
    PyObject *list = PyList_New(0);
    for (i64 e = p->in_ptr[v]; list && e < p->in_ptr[v + 1]; e++) {
        i64 t = p->in_tensor[e], u = p->producer[t], source, latency = 0;
        if (source_memory(s, t) != here) {
            source = at->transfer[t * p->nm + here];
        } else if (u >= 0) {
            source = at->task[u];
            if (p->mode_device[p->mode_ptr[u] + s->mode[u]] != d) latency = p->handoff;
        } else {
            continue;
        }
        for (i64 k = 0; k < s->tiles[v]; k++)
            needed[k] = u < 0 ? 1 : tiles_needed(p, e, v, p->rows[u], k, s->tiles[v], s->tiles[u]);
        PyObject *wait = wait_for(at, source, needed, s->tiles[v], latency);
        if (!wait || PyList_Append(list, wait)) Py_CLEAR(list);
        Py_XDECREF(wait);
    }
    PyObject *waits = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return waits;
}

static PyObject *operator_content(const Sim *s, const Numbers *at, i64 v) {
    const Problem *p = s->p;
    i64 m = p->mode_ptr[v] + s->mode[v], d = p->mode_device[m], here = p->dev_memory[d];
    PyObject *waits = waits_of(s, at, v);
    PyObject *reads = buffers_of(p, at, p->in_tensor + p->in_ptr[v], p->in_ptr[v + 1] - p->in_ptr[v], here);
    PyObject *writes = buffers_of(p, at, p->out_tensor + p->out_ptr[v], p->out_ptr[v + 1] - p->out_ptr[v], here);
    if (!waits || !reads || !writes) {
        Py_XDECREF(waits); Py_XDECREF(reads); Py_XDECREF(writes);
        return NULL;
    }
    return Py_BuildValue("(LLLLNNN)", d, operator_work(s, v), s->tiles[v], p->mode_energy[m], waits, reads, writes);
}

static PyObject *transfer_content(const Sim *s, const Numbers *at, i64 t, i64 memory) {
    const Problem *p = s->p;
    i64 x = t * p->nm + memory, u = p->producer[t], home = source_memory(s, t), link = transfer_link(s, x);
    i64 needed[MAX_TILES], chunks = chunks_of(s, x);
    if (link < 0) {
        PyErr_SetString(PyExc_ValueError, "contents: no link to that memory");
        return NULL;
    }
    for (i64 k = 0; k < chunks; k++) needed[k] = k + 1;
    PyObject *waits = u < 0 ? PyTuple_New(0) : Py_BuildValue("(N)", wait_for(at, at->task[u], needed, chunks, 0));
    if (!waits) return NULL;
    return Py_BuildValue("(LLLLN(L)(L))", link, transfer_work(s, x), chunks, p->xfer_energy[link * p->nt + t], waits,
                         at->buffer[t * p->nm + home], at->buffer[x]);
}

PyObject *Problem_contents(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in, *rows, *buffers, *wait, *out = NULL;
    if (!PyArg_ParseTuple(args, "OOO!O!O", &modes, &tiles_in, &PyList_Type, &rows, &PyList_Type, &buffers, &wait)) return NULL;
    if (!PyTuple_Check(wait) || PyTuple_GET_SIZE(wait) < REST) {
        PyErr_SetString(PyExc_TypeError, "contents: a wait is a tuple of task, counts, latency ...");
        return NULL;
    }
    i64 *mode, *tiles;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Sim sim = {p, mode, tiles, NULL, 0, 0, 0, 0, 0};
    Numbers at = {unknown(p->n), unknown(p->nt * p->nm), unknown(p->nt * p->nm), wait};
    if (!at.task || !at.transfer || !at.buffer || number(p, rows, at.task, at.transfer) ||
        number(p, buffers, NULL, at.buffer) || !(out = PyList_New(PyList_GET_SIZE(rows))))
        goto done;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(rows); i++) {
        i64 index = item(PyList_GET_ITEM(rows, i), 0), memory = item(PyList_GET_ITEM(rows, i), 1);
        PyObject *row = memory < 0 ? operator_content(&sim, &at, index) : transfer_content(&sim, &at, index, memory);
        if (!row) { Py_CLEAR(out); goto done; }
        PyList_SET_ITEM(out, i, row);
    }
done:
    PyMem_Free(at.task);
    PyMem_Free(at.transfer);
    PyMem_Free(at.buffer);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}
