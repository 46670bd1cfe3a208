/* One evaluation: list scheduling with streamed tiles; what it says of tasks, buffers and waits. */
#include "native.h"

/* --- one evaluation ------------------------------------------------------------------------- */

static inline i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

static inline i64 memory_of(const Sim *s, i64 op) {
    return s->p->dev_memory[s->p->mode_device[s->p->mode_ptr[op] + s->mode[op]]];
}

static inline i64 source_memory(const Sim *s, i64 tensor) {
    i64 u = s->p->producer[tensor];
    return u < 0 ? s->p->io_memory : memory_of(s, u);
}

/* Tiles of the source that tile k of v needs of input e (count: tiles of the source, rows made by it: made). */
static inline i64 tiles_needed(const Problem *p, i64 e, i64 v, i64 made_rows, i64 k, i64 tiles, i64 count) {
    if (count <= 1 || p->in_rows[e] <= 0) return count;
    i64 rows = ((k + 1) * p->rows[v] / tiles - 1) * p->in_stride[e] - p->in_pad[e] + p->in_window[e];
    if (rows > p->in_rows[e]) rows = p->in_rows[e];
    if (rows < 0) rows = 0;
    return ceil_div(ceil_div(rows * made_rows, p->in_rows[e]) * count, made_rows);
}

/* Run the tiles of operator v from time `free`; returns the end. */
static i64 run_operator(const Sim *s, i64 v, i64 free, i64 *tile_end, i64 *start) {
    const Problem *p = s->p;
    i64 m = p->mode_ptr[v] + s->mode[v], d = p->mode_device[m], mem = p->dev_memory[d];
    i64 tiles = s->tiles[v];
    i64 work = p->mode_work[m] + (tiles - 1) * p->dev_overhead[d];
    i64 now = free;
    for (i64 k = 0; k < tiles; k++) {
        i64 begin = now;
        for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
            i64 t = p->in_tensor[e], u = p->producer[t];
            const i64 *ends;
            i64 count, latency = 0;
            if (source_memory(s, t) != mem) {
                ends = p->xf_tiles_end + (t * p->nm + mem) * MAX_TILES;
                count = p->xf_tiles[t * p->nm + mem];
            } else if (u < 0) {
                continue;
            } else {
                ends = p->op_tiles_end + u * MAX_TILES;
                count = s->tiles[u];
                if (p->mode_device[p->mode_ptr[u] + s->mode[u]] != d) latency = p->handoff;
            }
            i64 need = tiles_needed(p, e, v, u < 0 ? 1 : p->rows[u], k, tiles, count);
            if (need > 0) {
                i64 ready = ends[need - 1] + latency;
                if (ready > begin) begin = ready;
            }
        }
        if (k == 0) *start = begin;
        now = begin + (work * (k + 1) / tiles - work * k / tiles);
        tile_end[k] = now;
    }
    return now;
}

static i64 transfer_link(const Sim *s, i64 x) {
    return s->p->link_of[source_memory(s, x / s->p->nm) * s->p->nm + x % s->p->nm];
}

static i64 transfer_work(const Sim *s, i64 x) {
    const Problem *p = s->p;
    i64 t = x / p->nm, link = transfer_link(s, x), u = p->producer[t], tiles = u < 0 ? 1 : s->tiles[u];
    return p->xfer_work[link * p->nt + t] + (tiles - 1) * p->link_overhead[link];
}

/* The channel of `link` that is free first. */
static i64 first_channel(const Problem *p, i64 link) {
    i64 best = link * MAX_CHANNELS;
    for (i64 c = best + 1; c < link * MAX_CHANNELS + p->link_channels[link]; c++)
        if (p->chan_free[c] < p->chan_free[best]) best = c;
    return best;
}

/* Run the chunks of transfer x from time `free`; returns the end. */
static i64 run_transfer(const Sim *s, i64 x, i64 free, i64 *tile_end, i64 *start) {
    const Problem *p = s->p;
    i64 u = p->producer[x / p->nm], tiles = u < 0 ? 1 : s->tiles[u], work = transfer_work(s, x), now = free;
    for (i64 k = 0; k < tiles; k++) {
        i64 begin = now;
        if (u >= 0 && p->op_tiles_end[u * MAX_TILES + k] > begin) begin = p->op_tiles_end[u * MAX_TILES + k];
        if (k == 0) *start = begin;
        now = begin + (work * (k + 1) / tiles - work * k / tiles);
        tile_end[k] = now;
    }
    return now;
}

/* --- candidates ------------------------------------------------------------------------------ */
/* The candidate that can run without stalling first goes next. That time is the later of when its queue is free and
 * of a time that its inputs set once (`key`), so two heaps per queue do: candidates that the queue waits for, by
 * time, and those that wait for the queue, by rank. A queue is a device, or a link after the devices; candidate c is
 * operator c, or transfer c - n. Pairing heaps: `child` and `sibling` are lists threaded through the candidates. */

#define WAITED_FOR INT64_MIN

static int before(const Problem *p, i64 a, i64 b) {
    if (p->key[a] != p->key[b]) return p->key[a] < p->key[b];
    i64 ra = a < p->n ? p->rank[a] : INT64_MAX, rb = b < p->n ? p->rank[b] : INT64_MAX;
    return ra != rb ? ra > rb : a < b;
}

static i64 meld(const Problem *p, i64 a, i64 b) {
    if (a < 0) return b;
    if (b < 0) return a;
    if (before(p, b, a)) { i64 c = a; a = b; b = c; }
    p->sibling[b] = p->child[a];
    p->child[a] = b;
    return a;
}

static i64 without_first(const Problem *p, i64 first) {
    i64 pairs = -1, root = -1, a = p->child[first];
    while (a >= 0) {
        i64 b = p->sibling[a], next = b < 0 ? -1 : p->sibling[b];
        i64 pair = meld(p, a, b);
        p->sibling[pair] = pairs;
        pairs = pair;
        a = next;
    }
    while (pairs >= 0) {
        i64 next = p->sibling[pairs];
        root = meld(p, root, pairs);
        pairs = next;
    }
    return root;
}

static void candidate(Sim *s, i64 c) {
    const Problem *p = s->p;
    if (s->order) return;
    i64 scratch[MAX_TILES], start, queue;
    if (c < p->n) {
        i64 m = p->mode_ptr[c] + s->mode[c];
        queue = p->mode_device[m];
        p->key[c] = run_operator(s, c, 0, scratch, &start) - p->mode_work[m] - (s->tiles[c] - 1) * p->dev_overhead[queue];
    } else {
        queue = p->nd + transfer_link(s, c - p->n);
        p->key[c] = run_transfer(s, c - p->n, 0, scratch, &start) - transfer_work(s, c - p->n);
    }
    p->child[c] = -1;
    p->late[queue] = meld(p, p->late[queue], c);
}

/* Take the next candidate out of the heaps; -1 if there is none. */
static i64 next_candidate(Sim *s) {
    Problem *p = s->p;
    i64 best = -1, best_queue = -1, best_time = 0;
    for (i64 q = 0; q < p->nd + p->nl; q++) {
        i64 free = q < p->nd ? p->dev_free[q] : p->chan_free[first_channel(p, q - p->nd)];
        while (p->late[q] >= 0 && p->key[p->late[q]] <= free) {
            i64 c = p->late[q];
            p->late[q] = without_first(p, c);
            p->key[c] = WAITED_FOR;
            p->child[c] = -1;
            p->ready[q] = meld(p, p->ready[q], c);
        }
        i64 c = p->ready[q] >= 0 ? p->ready[q] : p->late[q];
        if (c < 0) continue;
        i64 time = p->ready[q] >= 0 ? free : p->key[c];
        if (best < 0 || time < best_time) { best = c; best_queue = q; best_time = time; continue; }
        if (time > best_time) continue;
        i64 a = c < p->n ? p->rank[c] : INT64_MAX, b = best < p->n ? p->rank[best] : INT64_MAX;
        if (a > b || (a == b && c < best)) { best = c; best_queue = q; }
    }
    if (best < 0) return -1;
    i64 *heap = p->ready[best_queue] >= 0 ? p->ready : p->late;
    heap[best_queue] = without_first(p, best);
    return best;
}

/* Tensor t is (or starts to be) available in memory `mem`: wake its readers there. */
static void arrived(Sim *s, i64 t, i64 mem) {
    const Problem *p = s->p;
    for (i64 i = p->cons_ptr[t]; i < p->cons_ptr[t + 1]; i++) {
        i64 v = p->cons_op[i];
        if (memory_of(s, v) == mem && --p->op_wait[v] == 0) candidate(s, v);
    }
}

static void produced(Sim *s, i64 t) {
    const Problem *p = s->p;
    i64 home = source_memory(s, t);
    arrived(s, t, home);
    for (i64 i = p->cons_ptr[t]; i < p->cons_ptr[t + 1]; i++) {
        i64 mem = memory_of(s, p->cons_op[i]), x = t * p->nm + mem;
        if (mem != home && p->xf_state[x] == XF_NONE) { p->xf_state[x] = XF_READY; candidate(s, p->n + x); }
    }
    i64 x = t * p->nm + p->io_memory;
    if (p->sink[t] && home != p->io_memory && p->xf_state[x] == XF_NONE) {
        p->xf_state[x] = XF_READY;
        candidate(s, p->n + x);
    }
}

static void commit_operator(Sim *s, i64 v, Result *out) {
    Problem *p = s->p;
    i64 m = p->mode_ptr[v] + s->mode[v], d = p->mode_device[m];
    p->op_end[v] = run_operator(s, v, p->dev_free[d], p->op_tiles_end + v * MAX_TILES, p->op_start + v);
    p->dev_free[d] = p->op_end[v];
    if (p->op_end[v] > out->latency) out->latency = p->op_end[v];
    out->energy += p->mode_energy[m];
    out->used |= (uint64_t)1 << d;
    for (i64 i = p->out_ptr[v]; i < p->out_ptr[v + 1]; i++) produced(s, p->out_tensor[i]);
}

static void commit_transfer(Sim *s, i64 x, Result *out) {
    Problem *p = s->p;
    i64 t = x / p->nm, link = transfer_link(s, x), channel = first_channel(p, link);
    p->xf_end[x] = run_transfer(s, x, p->chan_free[channel], p->xf_tiles_end + x * MAX_TILES, p->xf_start + x);
    p->xf_channel[x] = channel;
    p->xf_tiles[x] = p->producer[t] < 0 ? 1 : s->tiles[p->producer[t]];
    p->chan_free[channel] = p->xf_end[x];
    p->xf_state[x] = XF_DONE;
    if (p->xf_end[x] > out->latency) out->latency = p->xf_end[x];
    out->energy += p->xfer_energy[link * p->nt + t];
    arrived(s, t, x % p->nm);
}

/* Schedule in the order that is prescribed; NULL, or what is wrong with the order. */
static const char *follow(Sim *s, Result *out) {
    Problem *p = s->p;
    i64 operators = 0;
    for (i64 i = 0; i < s->order_len; i++) {
        i64 c = s->order[i];
        if (c < 0 || c >= p->n + p->nt * p->nm) return "order: an entry is no task";
        if (c >= p->n) {
            if (p->xf_state[c - p->n] != XF_READY) continue;
            p->order[out->order_len++] = c;
            commit_transfer(s, c - p->n, out);
            continue;
        }
        for (i64 e = p->in_ptr[c]; e < p->in_ptr[c + 1]; e++) {
            i64 x = p->in_tensor[e] * p->nm + memory_of(s, c);
            if (p->xf_state[x] != XF_READY) continue;
            p->order[out->order_len++] = p->n + x;
            commit_transfer(s, x, out);
        }
        if (p->op_wait[c]) return "order: an operator comes twice or before one that it reads from";
        p->op_wait[c] = -1;
        p->order[out->order_len++] = c;
        operators++;
        commit_operator(s, c, out);
    }
    if (operators < p->n) return "order: an operator is missing";
    for (i64 x = 0; x < p->nt * p->nm; x++)
        if (p->xf_state[x] == XF_READY) {
            p->order[out->order_len++] = p->n + x;
            commit_transfer(s, x, out);
        }
    return NULL;
}

void simulate(Problem *p, const i64 *mode, const i64 *tiles, Result *out) {
    simulate_in_order(p, mode, tiles, NULL, 0, out);
}

const char *simulate_in_order(Problem *p, const i64 *mode, const i64 *tiles, const i64 *order, i64 order_len,
                              Result *out) {
    Sim sim = {p, mode, tiles, order, order_len}, *s = &sim;
    memset(out, 0, sizeof(*out));
    memset(p->xf_state, 0, sizeof(i64) * (size_t)(p->nt * p->nm));
    memset(p->dev_free, 0, sizeof(i64) * (size_t)p->nd);
    memset(p->chan_free, 0, sizeof(i64) * (size_t)(p->nl * MAX_CHANNELS));
    for (i64 q = 0; q < p->nd + p->nl; q++) p->late[q] = p->ready[q] = -1;
    for (i64 v = 0; v < p->n; v++) {
        p->op_wait[v] = p->in_ptr[v + 1] - p->in_ptr[v];
        if (!p->op_wait[v]) candidate(s, v);
    }
    for (i64 t = 0; t < p->nt; t++)
        if (p->producer[t] < 0) produced(s, t);
    if (order) return follow(s, out);
    for (i64 c = next_candidate(s); c >= 0; c = next_candidate(s)) {
        p->order[out->order_len++] = c;
        if (c < p->n) commit_operator(s, c, out);
        else commit_transfer(s, c - p->n, out);
    }
    return NULL;
}

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
    Sim sim = {p, mode, tiles, NULL, 0};
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

PyObject *Problem_counts(Problem *p, PyObject *args) {
    PyObject *tiles_in, *out = NULL;
    if (!PyArg_ParseTuple(args, "O", &tiles_in)) return NULL;
    i64 *tiles = read_ints(tiles_in, p->n, "tiles");
    if (!tiles || !(out = PyList_New(p->in_ptr[p->n]))) goto fail;
    for (i64 v = 0; v < p->n; v++)
        for (i64 e = p->in_ptr[v]; e < p->in_ptr[v + 1]; e++) {
            i64 u = p->producer[p->in_tensor[e]];
            PyObject *row = PyTuple_New(tiles[v]);
            if (!row) goto fail;
            PyList_SET_ITEM(out, e, row);
            for (i64 k = 0; k < tiles[v]; k++) {
                i64 need = u < 0 ? 1 : tiles_needed(p, e, v, p->rows[u], k, tiles[v], tiles[u]);
                PyObject *item = PyLong_FromLongLong(need);
                if (!item) goto fail;
                PyTuple_SET_ITEM(row, k, item);
            }
        }
    PyMem_Free(tiles);
    return out;
fail:
    PyMem_Free(tiles);
    Py_XDECREF(out);
    return NULL;
}
