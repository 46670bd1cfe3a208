/* The Problem type: reading its arrays, its scratch memory, its methods. */
#include "native.h"

i64 *read_ints(PyObject *seq, i64 expected, const char *what) {
    PyObject *fast = PySequence_Fast(seq, what);
    if (!fast) return NULL;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast);
    if (expected >= 0 && n != expected) {
        PyErr_Format(PyExc_ValueError, "%s: expected %lld values, got %zd", what, (long long)expected, n);
        Py_DECREF(fast);
        return NULL;
    }
    i64 *out = PyMem_Malloc(sizeof(i64) * (size_t)(n + 1));
    if (!out) { Py_DECREF(fast); PyErr_NoMemory(); return NULL; }
    for (Py_ssize_t i = 0; i < n; i++) {
        out[i] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(fast, i));
        if (out[i] == -1 && PyErr_Occurred()) { PyMem_Free(out); Py_DECREF(fast); return NULL; }
    }
    Py_DECREF(fast);
    return out;
}

static i64 *field(PyObject *dict, const char *name, i64 expected) {
    PyObject *seq = PyDict_GetItemString(dict, name);
    if (!seq) { PyErr_Format(PyExc_KeyError, "%s", name); return NULL; }
    return read_ints(seq, expected, name);
}

static int scalar(PyObject *dict, const char *name, i64 *out) {
    PyObject *value = PyDict_GetItemString(dict, name);
    if (!value) { PyErr_Format(PyExc_KeyError, "%s", name); return -1; }
    *out = PyLong_AsLongLong(value);
    return (*out == -1 && PyErr_Occurred()) ? -1 : 0;
}

i64 *zeros(i64 n) {
    i64 *p = PyMem_Calloc((size_t)(n > 0 ? n : 1), sizeof(i64));
    if (!p) PyErr_NoMemory();
    return p;
}

/* Whether pointers of `count` rows into a column do not rise from 0 to `end`. */
int bad_pointers(const i64 *pointers, i64 count, i64 end) {
    for (i64 i = 0; i < count; i++)
        if (pointers[i] > pointers[i + 1]) return 1;
    return pointers[0] != 0 || pointers[count] != end;
}

static void Problem_dealloc(Problem *p) {
    i64 *all[] = {p->rows, p->rank, p->alike, p->mode_ptr, p->mode_device, p->mode_work, p->mode_energy, p->mode_resident,
                  p->in_ptr, p->in_tensor, p->in_rows, p->in_window, p->in_stride, p->in_pad, p->producer,
                  p->cons_ptr, p->cons_op, p->sink, p->out_ptr, p->out_tensor, p->dev_memory, p->dev_overhead,
                  p->dev_capacity, p->link_of, p->link_channels, p->link_overhead, p->xfer_work, p->xfer_energy,
                  p->op_wait, p->op_start, p->op_end, p->op_tiles_end, p->xf_state, p->xf_tiles_end, p->xf_tiles,
                  p->xf_start, p->xf_end, p->xf_channel, p->dev_free, p->chan_free, p->key, p->child,
                  p->sibling, p->late, p->ready, p->order, p->busy, p->chan_busy, p->resident, p->best_mode, p->best_tiles,
                  p->frame, p->released, p->last, p->left, p->woken, p->load, p->base.order, p->base.position,
                  p->base.woken, p->base.rows, p->base.channel, p->base.load, p->base.moves, p->base.marks};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    PyMem_Free(p->held);
    PyMem_Free(p->heir);
    PyMem_Free(p->mem_limit);
    PyMem_Free(p->mem_price);
    PyMem_Free(p->dev_static);
    PyMem_Free(p->need);
    PyMem_Free(p->need_key);
    Py_TYPE(p)->tp_free((PyObject *)p);
}

/* Room for the state of `slots` frames at a time. */
int more_slots(Problem *p, i64 slots) {
    if (slots <= p->slots) return 0;
    i64 copies = p->nt * p->nm, tasks = p->n + copies;
    struct { i64 **array; i64 count; } all[] = {
        {&p->op_wait, p->n}, {&p->op_start, p->n}, {&p->op_end, p->n}, {&p->op_tiles_end, p->n * MAX_TILES},
        {&p->xf_state, copies}, {&p->xf_start, copies}, {&p->xf_end, copies}, {&p->xf_channel, copies},
        {&p->xf_tiles, copies}, {&p->xf_tiles_end, copies * MAX_TILES}, {&p->key, tasks}, {&p->child, tasks},
        {&p->sibling, tasks}, {&p->woken, tasks}, {&p->frame, 1}, {&p->released, 1}, {&p->last, 1}, {&p->left, 1},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        i64 *room = zeros(all[i].count * slots);
        if (!room) return -1;
        PyMem_Free(*all[i].array);
        *all[i].array = room;
    }
    p->slots = slots;
    return 0;
}

#define FIELD(member, name, count) \
    do { if (!(p->member = field(dict, name, (count)))) return -1; } while (0)
#define DOUBLES(member, name, count) \
    do { if (!(p->member = doubles(dict, name, (count)))) return -1; } while (0)
#define SCRATCH(member, count) \
    do { if (!(p->member = zeros(count))) return -1; } while (0)

static double *doubles(PyObject *dict, const char *name, i64 count) {
    PyObject *row = PyDict_GetItemString(dict, name);
    if (!row) { PyErr_SetString(PyExc_KeyError, name); return NULL; }
    double *values = PyMem_Malloc(sizeof(double) * (size_t)(count + 1));
    if (!values) { PyErr_NoMemory(); return NULL; }
    for (i64 i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(row, i);
        values[i] = item ? PyFloat_AsDouble(item) : 0.0;
        Py_XDECREF(item);
        if (PyErr_Occurred()) { PyMem_Free(values); return NULL; }
    }
    return values;
}

static int Problem_init(Problem *p, PyObject *args, PyObject *kwargs) {
    PyObject *dict;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &dict)) return -1;
    if (p->rows) { PyErr_SetString(PyExc_RuntimeError, "Problem is already initialised"); return -1; }
    if (scalar(dict, "operators", &p->n) || scalar(dict, "tensors", &p->nt) || scalar(dict, "devices", &p->nd) ||
        scalar(dict, "memories", &p->nm) || scalar(dict, "links", &p->nl) ||
        scalar(dict, "io_memory", &p->io_memory) || scalar(dict, "handoff", &p->handoff))
        return -1;
    if (p->nd > MAX_DEVICES || p->nm > MAX_DEVICES) {
        PyErr_SetString(PyExc_ValueError, "more than 64 devices or memories");
        return -1;
    }
    if (p->n < 0 || p->nt < 0 || p->nm < 1 || p->nt > INT32_MAX / p->nm) {
        PyErr_SetString(PyExc_ValueError, "too many tensors, or a number is negative");
        return -1;
    }
    FIELD(rows, "rows", p->n);
    FIELD(rank, "rank", p->n);
    FIELD(alike, "alike", p->n);
    FIELD(mode_ptr, "mode_ptr", p->n + 1);
    i64 modes = p->mode_ptr[p->n];
    FIELD(mode_device, "mode_device", modes);
    FIELD(mode_work, "mode_work", modes);
    FIELD(mode_energy, "mode_energy", modes);
    FIELD(mode_resident, "mode_resident", modes);
    FIELD(in_ptr, "in_ptr", p->n + 1);
    i64 inputs = p->in_ptr[p->n];
    FIELD(in_tensor, "in_tensor", inputs);
    FIELD(in_rows, "in_rows", inputs);
    FIELD(in_window, "in_window", inputs);
    FIELD(in_stride, "in_stride", inputs);
    FIELD(in_pad, "in_pad", inputs);
    FIELD(producer, "producer", p->nt);
    FIELD(cons_ptr, "cons_ptr", p->nt + 1);
    FIELD(cons_op, "cons_op", p->cons_ptr[p->nt]);
    FIELD(sink, "sink", p->nt);
    FIELD(out_ptr, "out_ptr", p->n + 1);
    FIELD(out_tensor, "out_tensor", p->out_ptr[p->n]);
    FIELD(dev_memory, "dev_memory", p->nd);
    FIELD(dev_overhead, "dev_overhead", p->nd);
    FIELD(dev_capacity, "dev_capacity", p->nd);
    FIELD(link_of, "link_of", p->nm * p->nm);
    FIELD(link_channels, "link_channels", p->nl);
    FIELD(link_overhead, "link_overhead", p->nl);
    FIELD(xfer_work, "xfer_work", p->nl * p->nt);
    FIELD(xfer_energy, "xfer_energy", p->nl * p->nt);
    DOUBLES(dev_static, "dev_static", p->nd);
    if (PyDict_GetItemString(dict, "period") && scalar(dict, "period", &p->period)) return -1;
    if (PyDict_GetItemString(dict, "mem_limit")) {
        FIELD(held, "held", p->nt * p->nm);
        FIELD(heir, "heir", p->nt);
        FIELD(mem_limit, "mem_limit", p->nm);
        DOUBLES(mem_price, "mem_price", p->nm);
    }
    for (i64 l = 0; l < p->nl; l++)
        if (p->link_channels[l] < 1 || p->link_channels[l] > MAX_CHANNELS) {
            PyErr_SetString(PyExc_ValueError, "a link has 1 to 16 channels");
            return -1;
        }
    SCRATCH(dev_free, p->nd);
    SCRATCH(chan_free, p->nl * MAX_CHANNELS);
    SCRATCH(late, p->nd + p->nl);
    SCRATCH(ready, p->nd + p->nl);
    SCRATCH(order, p->n + p->nt * p->nm);
    SCRATCH(load, p->nd);
    SCRATCH(busy, p->nd + p->nl * MAX_CHANNELS);
    SCRATCH(chan_busy, p->nd + p->nl * MAX_CHANNELS);
    SCRATCH(resident, p->nd);
    SCRATCH(best_mode, p->n);
    SCRATCH(best_tiles, p->n);
    p->need = PyMem_Calloc((size_t)(inputs + 1), MAX_TILES);
    p->need_key = PyMem_Calloc((size_t)(inputs + 1), sizeof(*p->need_key));
    if (!p->need || !p->need_key) { PyErr_NoMemory(); return -1; }
    return more_slots(p, 1);
}

PyObject *ints_to_list(const i64 *values, i64 n) {
    PyObject *list = PyList_New(n);
    if (!list) return NULL;
    for (i64 i = 0; i < n; i++) {
        PyObject *item = PyLong_FromLongLong(values[i]);
        if (!item) { Py_DECREF(list); return NULL; }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

int read_modes(Problem *p, PyObject *modes, i64 **mode) {
    if (!(*mode = read_ints(modes, p->n, "modes"))) return -1;
    for (i64 v = 0; v < p->n; v++)
        if ((*mode)[v] < 0 || (*mode)[v] >= p->mode_ptr[v + 1] - p->mode_ptr[v]) {
            PyErr_Format(PyExc_ValueError, "operator %lld: mode out of range", (long long)v);
            PyMem_Free(*mode);
            *mode = NULL;
            return -1;
        }
    return 0;
}

int read_choice(Problem *p, PyObject *modes, PyObject *tiles, i64 **mode, i64 **tile) {
    if (read_modes(p, modes, mode)) return -1;
    if (!(*tile = read_ints(tiles, p->n, "tiles"))) { PyMem_Free(*mode); return -1; }
    for (i64 v = 0; v < p->n; v++)
        if ((*tile)[v] < 1 || (*tile)[v] > MAX_TILES) {
            PyErr_Format(PyExc_ValueError, "operator %lld: tile count out of range", (long long)v);
            PyMem_Free(*mode);
            PyMem_Free(*tile);
            return -1;
        }
    return 0;
}

static PyMethodDef Problem_methods[] = {
    {"climb", (PyCFunction)Problem_climb, METH_VARARGS, "Local search; see reference.py."},
    {"balance", (PyCFunction)Problem_balance, METH_VARARGS, "Search for the interval; see balancing.py."},
    {"tune", (PyCFunction)Problem_tune, METH_VARARGS, "Search that keeps the order; see tuning.py."},
    {"weave", (PyCFunction)Problem_weave, METH_VARARGS, "Frames woven together; see weaving.py."},
    {"offload", (PyCFunction)Problem_offload, METH_VARARGS, "Operators to other devices; see starting.py."},
    {"best", (PyCFunction)Problem_best, METH_VARARGS, "The best of some placements; see starting.py."},
    {"overflowing", (PyCFunction)Problem_overflowing, METH_VARARGS, "Buffers to spill; see spilling.py."},
    {"prefer", (PyCFunction)Problem_prefer, METH_VARARGS, "Everything on one device; see reference.py."},
    {"score", (PyCFunction)Problem_score, METH_VARARGS, "Score of one placement; see reference.py."},
    {"contents", (PyCFunction)Problem_contents, METH_VARARGS, "What tasks do; see contents.py."},
    {"cut", (PyCFunction)Problem_cut, METH_VARARGS, "Optimal additive placement; see cutting.py."},
    {"cut_within", (PyCFunction)Problem_cut_within, METH_VARARGS, "The cut whose weights fit; see cutting.py."},
    {"knapsack", (PyCFunction)Problem_knapsack, METH_VARARGS, "The best use of a capacity; see filling.py."},
    {"steady", (PyCFunction)Problem_steady, METH_VARARGS, "One of many frames; see reference.py."},
    {"trace", (PyCFunction)Problem_trace, METH_VARARGS, "Schedule of one placement; see reference.py."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject ProblemType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "h4hc.passes.core._native.Problem",
    .tp_basicsize = sizeof(Problem),
    .tp_dealloc = (destructor)Problem_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A scheduling problem; see reference.py.",
    .tp_methods = Problem_methods,
    .tp_init = (initproc)Problem_init,
    .tp_new = PyType_GenericNew,
};
