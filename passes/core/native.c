/* The inner loops of scheduling, compiled: evaluate a placement, climb, cut, pack.
 *
 * reference.py, cutting.py and packing.py are the same program in Python and document every function; tests
 * hold the two equal bit for bit. All times are integer ticks, all energies integer picojoules, scores are IEEE doubles computed
 * in the same order on both sides.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MAX_TILES 16

typedef int64_t i64;

typedef struct {
    PyObject_HEAD
    i64 n, nt, nd, nm, nl, io_memory, handoff;
    /* operators */
    i64 *rows, *rank, *mode_ptr, *mode_device, *mode_work, *mode_energy, *mode_resident;
    i64 *in_ptr, *in_tensor, *in_rows, *in_window, *in_stride, *in_pad;
    /* tensors */
    i64 *producer, *cons_ptr, *cons_op, *sink, *out_ptr, *out_tensor;
    /* devices, links */
    i64 *dev_memory, *dev_overhead, *dev_capacity, *link_of, *link_channels, *link_overhead;
    i64 *xfer_work, *xfer_energy;
    double *dev_static;
    /* scratch */
    i64 *op_wait, *op_start, *op_end, *op_tiles_end, *xf_state, *xf_tiles_end, *xf_tiles, *xf_start,
        *xf_end, *xf_channel, *dev_free, *chan_free, *cand, *key, *order;
    i64 *resident, *best_mode, *best_tiles;
} Problem;

typedef struct {
    i64 latency, energy;
    uint64_t used;
    i64 order_len;
} Result;

enum { XF_NONE = 0, XF_READY = 1, XF_DONE = 2 };
#define MAX_CHANNELS 8

static i64 *read_ints(PyObject *seq, i64 expected, const char *what) {
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

static i64 *zeros(i64 n) {
    i64 *p = PyMem_Calloc((size_t)(n > 0 ? n : 1), sizeof(i64));
    if (!p) PyErr_NoMemory();
    return p;
}

static void Problem_dealloc(Problem *p) {
    i64 *all[] = {p->rows, p->rank, p->mode_ptr, p->mode_device, p->mode_work, p->mode_energy, p->mode_resident,
                  p->in_ptr, p->in_tensor, p->in_rows, p->in_window, p->in_stride, p->in_pad, p->producer,
                  p->cons_ptr, p->cons_op, p->sink, p->out_ptr, p->out_tensor, p->dev_memory, p->dev_overhead,
                  p->dev_capacity, p->link_of, p->link_channels, p->link_overhead, p->xfer_work, p->xfer_energy,
                  p->op_wait, p->op_start, p->op_end, p->op_tiles_end, p->xf_state, p->xf_tiles_end, p->xf_tiles,
                  p->xf_start, p->xf_end, p->xf_channel, p->dev_free, p->chan_free, p->cand, p->key, p->order,
                  p->resident, p->best_mode, p->best_tiles};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    PyMem_Free(p->dev_static);
    Py_TYPE(p)->tp_free((PyObject *)p);
}

#define FIELD(member, name, count) \
    do { if (!(p->member = field(dict, name, (count)))) return -1; } while (0)
#define SCRATCH(member, count) \
    do { if (!(p->member = zeros(count))) return -1; } while (0)

static int Problem_init(Problem *p, PyObject *args, PyObject *kwargs) {
    PyObject *dict;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &dict)) return -1;
    if (p->rows) { PyErr_SetString(PyExc_RuntimeError, "Problem is already initialised"); return -1; }
    if (scalar(dict, "operators", &p->n) || scalar(dict, "tensors", &p->nt) || scalar(dict, "devices", &p->nd) ||
        scalar(dict, "memories", &p->nm) || scalar(dict, "links", &p->nl) ||
        scalar(dict, "io_memory", &p->io_memory) || scalar(dict, "handoff", &p->handoff))
        return -1;
    FIELD(rows, "rows", p->n);
    FIELD(rank, "rank", p->n);
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
    PyObject *watts = PyDict_GetItemString(dict, "dev_static");
    if (!watts) { PyErr_SetString(PyExc_KeyError, "dev_static"); return -1; }
    p->dev_static = PyMem_Malloc(sizeof(double) * (size_t)(p->nd + 1));
    if (!p->dev_static) { PyErr_NoMemory(); return -1; }
    for (i64 d = 0; d < p->nd; d++) {
        PyObject *item = PySequence_GetItem(watts, d);
        if (!item) return -1;
        p->dev_static[d] = PyFloat_AsDouble(item);
        Py_DECREF(item);
        if (PyErr_Occurred()) return -1;
    }
    for (i64 l = 0; l < p->nl; l++)
        if (p->link_channels[l] < 1 || p->link_channels[l] > MAX_CHANNELS) {
            PyErr_SetString(PyExc_ValueError, "a link has 1 to 8 channels");
            return -1;
        }
    SCRATCH(op_wait, p->n);
    SCRATCH(op_start, p->n);
    SCRATCH(op_end, p->n);
    SCRATCH(op_tiles_end, p->n * MAX_TILES);
    SCRATCH(xf_state, p->nt * p->nm);
    SCRATCH(xf_tiles_end, p->nt * p->nm * MAX_TILES);
    SCRATCH(xf_tiles, p->nt * p->nm);
    SCRATCH(xf_start, p->nt * p->nm);
    SCRATCH(xf_end, p->nt * p->nm);
    SCRATCH(xf_channel, p->nt * p->nm);
    SCRATCH(dev_free, p->nd);
    SCRATCH(chan_free, p->nl * MAX_CHANNELS);
    SCRATCH(cand, p->n + p->nt * p->nm);
    SCRATCH(key, p->n + p->nt * p->nm);
    SCRATCH(order, p->n + p->nt * p->nm);
    SCRATCH(resident, p->nd);
    SCRATCH(best_mode, p->n);
    SCRATCH(best_tiles, p->n);
    return 0;
}

/* --- one evaluation ------------------------------------------------------------------------- */

typedef struct {
    Problem *p;
    const i64 *mode, *tiles;
    i64 ncand, norder;
} Sim;

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

static i64 run_transfer(const Sim *s, i64 x, i64 *tile_end, i64 *start, i64 *channel, i64 *out_work) {
    const Problem *p = s->p;
    i64 t = x / p->nm, mem = x % p->nm, u = p->producer[t];
    i64 link = p->link_of[source_memory(s, t) * p->nm + mem];
    i64 tiles = u < 0 ? 1 : s->tiles[u];
    i64 work = p->xfer_work[link * p->nt + t] + (tiles - 1) * p->link_overhead[link];
    i64 best = 0;
    for (i64 c = 1; c < p->link_channels[link]; c++)
        if (p->chan_free[link * MAX_CHANNELS + c] < p->chan_free[link * MAX_CHANNELS + best]) best = c;
    i64 now = p->chan_free[link * MAX_CHANNELS + best];
    for (i64 k = 0; k < tiles; k++) {
        i64 begin = now;
        if (u >= 0 && p->op_tiles_end[u * MAX_TILES + k] > begin) begin = p->op_tiles_end[u * MAX_TILES + k];
        if (k == 0) *start = begin;
        now = begin + (work * (k + 1) / tiles - work * k / tiles);
        tile_end[k] = now;
    }
    *channel = link * MAX_CHANNELS + best;
    *out_work = work;
    return now;
}

static void candidate(Sim *s, i64 c) {
    s->p->key[s->ncand] = -1;
    s->p->cand[s->ncand++] = c;
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

static void simulate(Problem *p, const i64 *mode, const i64 *tiles, Result *out) {
    Sim sim = {p, mode, tiles, 0, 0}, *s = &sim;
    i64 latency = 0, energy = 0, scratch[MAX_TILES];
    uint64_t used = 0;
    memset(p->xf_state, 0, sizeof(i64) * (size_t)(p->nt * p->nm));
    memset(p->dev_free, 0, sizeof(i64) * (size_t)p->nd);
    memset(p->chan_free, 0, sizeof(i64) * (size_t)(p->nl * MAX_CHANNELS));
    for (i64 v = 0; v < p->n; v++) {
        p->op_wait[v] = p->in_ptr[v + 1] - p->in_ptr[v];
        if (!p->op_wait[v]) candidate(s, v);
    }
    for (i64 t = 0; t < p->nt; t++)
        if (p->producer[t] < 0) produced(s, t);
    while (s->ncand) {
        i64 pick = -1;
        for (i64 i = 0; i < s->ncand; i++) {
            i64 c = p->cand[i], start, channel, work;
            if (p->key[i] < 0) {
                if (c < p->n) {
                    i64 m = p->mode_ptr[c] + mode[c], d = p->mode_device[m];
                    i64 end = run_operator(s, c, p->dev_free[d], scratch, &start);
                    p->key[i] = end - p->mode_work[m] - (tiles[c] - 1) * p->dev_overhead[d];
                } else {
                    i64 end = run_transfer(s, c - p->n, scratch, &start, &channel, &work);
                    p->key[i] = end - work;
                }
            }
            if (pick < 0 || p->key[i] < p->key[pick]) { pick = i; continue; }
            if (p->key[i] == p->key[pick]) {
                i64 a = c < p->n ? p->rank[c] : INT64_MAX, b = p->cand[pick];
                i64 rb = b < p->n ? p->rank[b] : INT64_MAX;
                if (a > rb || (a == rb && c < b)) pick = i;
            }
        }
        i64 c = p->cand[pick];
        s->ncand--;
        p->cand[pick] = p->cand[s->ncand];
        p->key[pick] = p->key[s->ncand];
        p->order[s->norder++] = c;
        if (c < p->n) {
            i64 m = p->mode_ptr[c] + mode[c], d = p->mode_device[m];
            p->op_end[c] = run_operator(s, c, p->dev_free[d], p->op_tiles_end + c * MAX_TILES, p->op_start + c);
            p->dev_free[d] = p->op_end[c];
            if (p->op_end[c] > latency) latency = p->op_end[c];
            energy += p->mode_energy[m];
            used |= (uint64_t)1 << d;
            for (i64 i = 0; i < s->ncand; i++) {
                i64 o = p->cand[i];
                if (o < p->n && p->mode_device[p->mode_ptr[o] + mode[o]] == d) p->key[i] = -1;
            }
            for (i64 i = p->out_ptr[c]; i < p->out_ptr[c + 1]; i++) produced(s, p->out_tensor[i]);
        } else {
            i64 x = c - p->n, work, t = x / p->nm, link = p->link_of[source_memory(s, t) * p->nm + x % p->nm];
            p->xf_end[x] = run_transfer(s, x, p->xf_tiles_end + x * MAX_TILES, p->xf_start + x, p->xf_channel + x, &work);
            p->xf_tiles[x] = p->producer[t] < 0 ? 1 : tiles[p->producer[t]];
            p->chan_free[p->xf_channel[x]] = p->xf_end[x];
            p->xf_state[x] = XF_DONE;
            if (p->xf_end[x] > latency) latency = p->xf_end[x];
            energy += p->xfer_energy[link * p->nt + t];
            for (i64 i = 0; i < s->ncand; i++)
                if (p->cand[i] >= p->n) p->key[i] = -1;
            arrived(s, t, x % p->nm);
        }
    }
    out->latency = latency;
    out->energy = energy;
    out->used = used;
    out->order_len = s->norder;
}

/* --- scores and the climb -------------------------------------------------------------------- */

typedef struct { double late, primary, secondary; } Score;

static double total_energy(const Problem *p, const Result *r) {
    double watts = 0.0;
    for (i64 d = 0; d < p->nd; d++)
        if (r->used >> d & 1) watts += p->dev_static[d];
    return (double)r->energy + watts * (double)r->latency;
}

static Score score_of(const Problem *p, const Result *r, int objective, i64 budget) {
    double energy = total_energy(p, r), latency = (double)r->latency;
    Score s = {0.0, latency, energy};
    if (budget > 0 && r->latency > budget) s.late = (double)(r->latency - budget);
    if (objective == 1) { s.primary = energy; s.secondary = latency; }
    if (objective == 2) { s.primary = energy * latency; s.secondary = latency; }
    return s;
}

static int better_or_equal(const Score *a, const Score *b) {
    if (a->late != b->late) return a->late < b->late;
    if (a->primary != b->primary) return a->primary < b->primary;
    return a->secondary <= b->secondary;
}

static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (x * 0x2545F4914F6CDD1DULL) >> 32;
}

/* Put operator v on device d: the first mode of d that fits what is left of its capacity. */
static int place(Problem *p, i64 *mode, i64 v, i64 d) {
    i64 old = p->mode_ptr[v] + mode[v], old_device = p->mode_device[old];
    if (old_device == d) return 0;
    for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
        if (p->mode_device[m] != d || p->resident[d] + p->mode_resident[m] > p->dev_capacity[d]) continue;
        p->resident[old_device] -= p->mode_resident[old];
        p->resident[d] += p->mode_resident[m];
        mode[v] = m - p->mode_ptr[v];
        return 1;
    }
    return 0;
}

static i64 clamp_tiles(const Problem *p, i64 v, i64 tiles) {
    return p->rows[v] < tiles ? (p->rows[v] > 1 ? p->rows[v] : 1) : tiles;
}

static int mutate(Problem *p, i64 *mode, i64 *tiles, uint64_t mask, uint64_t *state) {
    uint64_t kind = next_random(state) % 8;
    i64 first = (i64)(next_random(state) % (uint64_t)p->n);
    i64 length = kind < 3 ? 1 : 1 + (i64)(next_random(state) % 8);
    i64 last = first + length < p->n ? first + length : p->n;
    int changed = 0;
    if (kind < 6) {
        i64 d = (i64)(next_random(state) % (uint64_t)p->nd);
        if (!(mask >> d & 1)) return 0;
        for (i64 v = first; v < last; v++) changed |= place(p, mode, v, d);
        return changed;
    }
    i64 wanted = (i64)1 << (next_random(state) % 5);
    for (i64 v = first; v < last; v++) {
        i64 count = clamp_tiles(p, v, wanted);
        changed |= count != tiles[v];
        tiles[v] = count;
    }
    return changed;
}

static void fill_resident(Problem *p, const i64 *mode) {
    memset(p->resident, 0, sizeof(i64) * (size_t)p->nd);
    for (i64 v = 0; v < p->n; v++) {
        i64 m = p->mode_ptr[v] + mode[v];
        p->resident[p->mode_device[m]] += p->mode_resident[m];
    }
}

static PyObject *ints_to_list(const i64 *values, i64 n) {
    PyObject *list = PyList_New(n);
    if (!list) return NULL;
    for (i64 i = 0; i < n; i++) {
        PyObject *item = PyLong_FromLongLong(values[i]);
        if (!item) { Py_DECREF(list); return NULL; }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static int read_choice(Problem *p, PyObject *modes, PyObject *tiles, i64 **mode, i64 **tile) {
    if (!(*mode = read_ints(modes, p->n, "modes"))) return -1;
    if (!(*tile = read_ints(tiles, p->n, "tiles"))) { PyMem_Free(*mode); return -1; }
    for (i64 v = 0; v < p->n; v++) {
        i64 count = p->mode_ptr[v + 1] - p->mode_ptr[v];
        if ((*mode)[v] < 0 || (*mode)[v] >= count || (*tile)[v] < 1 || (*tile)[v] > MAX_TILES) {
            PyErr_Format(PyExc_ValueError, "operator %lld: mode or tile count out of range", (long long)v);
            PyMem_Free(*mode);
            PyMem_Free(*tile);
            return -1;
        }
    }
    return 0;
}

static PyObject *Problem_climb(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in;
    long long evaluations, budget;
    unsigned long long seed, mask;
    int objective;
    if (!PyArg_ParseTuple(args, "OOLKKiL", &modes, &tiles_in, &evaluations, &seed, &mask, &objective, &budget))
        return NULL;
    i64 *mode, *tiles;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    size_t bytes = sizeof(i64) * (size_t)p->n;
    Result result;
    Py_BEGIN_ALLOW_THREADS
    uint64_t state = seed ? seed : 1;
    simulate(p, mode, tiles, &result);
    Score current = score_of(p, &result, objective, budget);
    fill_resident(p, mode);
    memcpy(p->best_mode, mode, bytes);
    memcpy(p->best_tiles, tiles, bytes);
    for (long long i = 0; p->n && i < evaluations; i++) {
        if (!mutate(p, mode, tiles, mask, &state)) continue;
        simulate(p, mode, tiles, &result);
        Score next = score_of(p, &result, objective, budget);
        if (better_or_equal(&next, &current)) {
            current = next;
            memcpy(p->best_mode, mode, bytes);
            memcpy(p->best_tiles, tiles, bytes);
        } else {
            memcpy(mode, p->best_mode, bytes);
            memcpy(tiles, p->best_tiles, bytes);
            fill_resident(p, mode);
        }
    }
    Py_END_ALLOW_THREADS
    PyObject *out = Py_BuildValue("(NN)", ints_to_list(p->best_mode, p->n), ints_to_list(p->best_tiles, p->n));
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return out;
}

static PyObject *Problem_score(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in;
    int objective;
    long long budget;
    if (!PyArg_ParseTuple(args, "OOiL", &modes, &tiles_in, &objective, &budget)) return NULL;
    i64 *mode, *tiles;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Result result;
    simulate(p, mode, tiles, &result);
    Score s = score_of(p, &result, objective, budget);
    PyMem_Free(mode);
    PyMem_Free(tiles);
    return Py_BuildValue("(ddd)", s.late, s.primary, s.secondary);
}

/* --- minimum cut (Dinic) ---------------------------------------------------------------------- */

#define INFINITE_CAPACITY ((i64)1 << 52)

typedef struct { i64 nodes, arcs, room; i64 *tails, *heads, *caps; int failed; } Network;

static void add_arc(Network *g, i64 tail, i64 head, i64 capacity) {
    if (capacity <= 0 || g->failed) return;
    if (g->arcs == g->room) {
        i64 room = g->room ? 2 * g->room : 256;
        i64 *grown[3] = {g->tails, g->heads, g->caps};
        for (int i = 0; i < 3; i++) {
            i64 *p = PyMem_Realloc(grown[i], sizeof(i64) * (size_t)room);
            if (!p) { g->failed = 1; return; }
            if (i == 0) g->tails = p;
            if (i == 1) g->heads = p;
            if (i == 2) g->caps = p;
        }
        g->room = room;
    }
    g->tails[g->arcs] = tail;
    g->heads[g->arcs] = head;
    g->caps[g->arcs++] = capacity;
}

/* 1 in `side` for the nodes on the source side (node 0; node 1 is the sink). Returns -1 without memory. */
static int dinic(const Network *g, i64 *side) {
    i64 n = g->nodes, m = g->arcs, source = 0, sink = 1;
    i64 *ptr = zeros(n + 2), *arc = zeros(2 * m), *cap = zeros(2 * m), *to = zeros(2 * m);
    i64 *next = zeros(n + 1), *queue = zeros(n), *path = zeros(n);
    int status = -1;
    if (!ptr || !arc || !cap || !to || !next || !queue || !path) goto done;
    for (i64 e = 0; e < m; e++) { /* arcs 2e and 2e+1 are a pair, kept in compressed rows */
        to[2 * e] = g->heads[e]; cap[2 * e] = g->caps[e]; to[2 * e + 1] = g->tails[e]; cap[2 * e + 1] = 0;
        ptr[g->tails[e] + 1]++; ptr[g->heads[e] + 1]++;
    }
    for (i64 v = 0; v < n; v++) ptr[v + 1] += ptr[v];
    memcpy(next, ptr, sizeof(i64) * (size_t)n);
    for (i64 e = 0; e < m; e++) { arc[next[g->tails[e]]++] = 2 * e; arc[next[g->heads[e]]++] = 2 * e + 1; }
    for (;;) {
        for (i64 v = 0; v < n; v++) side[v] = -1;
        i64 head = 0, tail = 0;
        queue[tail++] = source; side[source] = 0;
        while (head < tail) {
            i64 v = queue[head++];
            for (i64 i = ptr[v]; i < ptr[v + 1]; i++)
                if (cap[arc[i]] > 0 && side[to[arc[i]]] < 0) { side[to[arc[i]]] = side[v] + 1; queue[tail++] = to[arc[i]]; }
        }
        if (side[sink] < 0) break;
        memcpy(next, ptr, sizeof(i64) * (size_t)n);
        i64 depth = 0, v = source;
        for (;;) {
            if (v == sink) {
                i64 flow = INT64_MAX, cut = 0;
                for (i64 i = 0; i < depth; i++) if (cap[path[i]] < flow) { flow = cap[path[i]]; cut = i; }
                for (i64 i = 0; i < depth; i++) { cap[path[i]] -= flow; cap[path[i] ^ 1] += flow; }
                depth = cut; v = to[path[cut] ^ 1];
                continue;
            }
            i64 found = -1;
            for (; next[v] < ptr[v + 1]; next[v]++) {
                i64 a = arc[next[v]];
                if (cap[a] > 0 && side[to[a]] == side[v] + 1) { found = a; break; }
            }
            if (found >= 0) { path[depth++] = found; v = to[found]; continue; }
            if (v == source) break;
            side[v] = -1; depth--; v = to[path[depth] ^ 1]; next[v]++;
        }
    }
    for (i64 v = 0; v < n; v++) side[v] = side[v] >= 0;
    status = 0;
done:
    PyMem_Free(ptr); PyMem_Free(arc); PyMem_Free(cap); PyMem_Free(to);
    PyMem_Free(next); PyMem_Free(queue); PyMem_Free(path);
    return status;
}

typedef struct { i64 first, second, first_cost, second_cost, pinned_mode, memory; int pinned; } Choice;

typedef struct {
    const Problem *p;
    i64 first, second;
    double time, energy, balance, price;
    Network net;
    Choice *choice;
    i64 *extra; /* per operator: cost of transfers to pinned neighbours on side A, on side B */
} Cut;

/* The best mode of v on each side; pinned to the best other device if it runs on neither. 0: runs nowhere. */
static int choose(Cut *c, i64 v, uint64_t mask) {
    const Problem *p = c->p;
    i64 cost_of[64], mode_of[64], seen = 0;
    uint64_t have = 0;
    for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
        i64 d = p->mode_device[m];
        if (!(mask >> d & 1)) continue;
        double balance = d == c->first ? c->balance : 1.0;
        i64 cost = (i64)(c->time * balance * (double)p->mode_work[m] + c->energy * (double)p->mode_energy[m] +
                         c->price * (double)p->mode_resident[m]);
        if (!(have >> d & 1) || cost < cost_of[d]) { cost_of[d] = cost; mode_of[d] = m - p->mode_ptr[v]; }
        have |= (uint64_t)1 << d;
        seen = 1;
    }
    if (!seen) return 0;
    Choice *k = c->choice + v;
    int a = (have >> c->first & 1) != 0, b = (have >> c->second & 1) != 0;
    k->pinned = !a && !b;
    k->first = a ? mode_of[c->first] : -1;
    k->second = b ? mode_of[c->second] : -1;
    k->first_cost = a ? cost_of[c->first] : 0;
    k->second_cost = b ? cost_of[c->second] : 0;
    if (k->pinned) {
        i64 best = -1;
        for (i64 d = 0; d < p->nd; d++)
            if ((have >> d & 1) && (best < 0 || cost_of[d] < cost_of[best])) best = d;
        k->pinned_mode = mode_of[best];
        k->memory = p->dev_memory[best];
    }
    return 1;
}

static i64 move_cost(const Cut *c, i64 tensor, i64 from, i64 to) {
    const Problem *p = c->p;
    if (from == to) return 0;
    i64 at = p->link_of[from * p->nm + to] * p->nt + tensor;
    return (i64)(c->time * (double)p->xfer_work[at] + c->energy * (double)p->xfer_energy[at]);
}

/* `forth` is paid once if `node` is on side A and a free reader on side B, `back` the other way round. */
static void between(Cut *c, i64 node, i64 tensor, i64 readers, i64 forth, i64 back) {
    const Problem *p = c->p;
    i64 forth_node = node, back_node = node;
    if (!readers) return;
    if (readers > 1) {
        if (forth) { forth_node = c->net.nodes++; add_arc(&c->net, node, forth_node, forth); }
        if (back) { back_node = c->net.nodes++; add_arc(&c->net, back_node, node, back); }
    }
    for (i64 i = p->cons_ptr[tensor]; i < p->cons_ptr[tensor + 1]; i++) {
        i64 v = p->cons_op[i];
        if (c->choice[v].pinned) continue;
        if (forth) add_arc(&c->net, forth_node, 2 + v, readers > 1 ? INFINITE_CAPACITY : forth);
        if (back) add_arc(&c->net, 2 + v, back_node, readers > 1 ? INFINITE_CAPACITY : back);
    }
}

static void connect_tensor(Cut *c, i64 tensor) {
    const Problem *p = c->p;
    i64 a = p->dev_memory[c->first], b = p->dev_memory[c->second], u = p->producer[tensor], readers = 0, only = -1;
    uint64_t pinned = 0;
    for (i64 i = p->cons_ptr[tensor]; i < p->cons_ptr[tensor + 1]; i++) {
        i64 v = p->cons_op[i];
        if (c->choice[v].pinned) pinned |= (uint64_t)1 << c->choice[v].memory;
        else { readers++; only = v; }
    }
    if (p->sink[tensor]) pinned |= (uint64_t)1 << p->io_memory;
    if (u >= 0 && !c->choice[u].pinned) {
        for (i64 m = 0; m < p->nm; m++)
            if (pinned >> m & 1) {
                c->extra[2 * u] += move_cost(c, tensor, a, m);
                c->extra[2 * u + 1] += move_cost(c, tensor, b, m);
            }
        i64 forth = pinned >> b & 1 ? 0 : move_cost(c, tensor, a, b);
        i64 back = pinned >> a & 1 ? 0 : move_cost(c, tensor, b, a);
        between(c, 2 + u, tensor, readers, forth, back);
        return;
    }
    i64 home = u < 0 ? p->io_memory : c->choice[u].memory;
    i64 to_a = pinned >> a & 1 ? 0 : move_cost(c, tensor, home, a);
    i64 to_b = pinned >> b & 1 ? 0 : move_cost(c, tensor, home, b);
    if (readers == 1) {
        c->extra[2 * only] += to_a;
        c->extra[2 * only + 1] += to_b;
    } else if (readers) {
        between(c, 0, tensor, readers, to_b, 0);
        between(c, 1, tensor, readers, 0, to_a);
    }
}

static PyObject *Problem_cut(Problem *p, PyObject *args) {
    Cut cut = {0}, *c = &cut;
    long long first, second;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "LLKdddd", &first, &second, &mask, &c->time, &c->energy, &c->balance, &c->price))
        return NULL;
    if (first < 0 || first >= p->nd || second < 0 || second >= p->nd) {
        PyErr_SetString(PyExc_ValueError, "no such device");
        return NULL;
    }
    c->p = p;
    c->first = first;
    c->second = second;
    c->net.nodes = 2 + p->n;
    PyObject *out = NULL;
    i64 *side = NULL, *modes = NULL;
    c->choice = PyMem_Calloc((size_t)p->n + 1, sizeof(Choice));
    c->extra = zeros(2 * p->n);
    if (!c->choice || !c->extra) { PyErr_NoMemory(); goto done; }
    for (i64 v = 0; v < p->n; v++)
        if (!choose(c, v, mask)) { out = Py_NewRef(Py_None); goto done; }
    for (i64 t = 0; t < p->nt; t++) connect_tensor(c, t);
    for (i64 v = 0; v < p->n; v++) {
        const Choice *k = c->choice + v;
        if (k->pinned) continue;
        add_arc(&c->net, 0, 2 + v, k->second < 0 ? INFINITE_CAPACITY : k->second_cost + c->extra[2 * v + 1]);
        add_arc(&c->net, 2 + v, 1, k->first < 0 ? INFINITE_CAPACITY : k->first_cost + c->extra[2 * v]);
    }
    if (c->net.failed) { PyErr_NoMemory(); goto done; }
    if (!(side = zeros(c->net.nodes)) || !(modes = zeros(p->n)) || dinic(&c->net, side)) goto done;
    for (i64 v = 0; v < p->n; v++) {
        const Choice *k = c->choice + v;
        modes[v] = k->pinned ? k->pinned_mode : side[2 + v] ? k->first : k->second;
    }
    out = ints_to_list(modes, p->n);
done:
    PyMem_Free(c->choice); PyMem_Free(c->extra); PyMem_Free(side); PyMem_Free(modes);
    PyMem_Free(c->net.tails); PyMem_Free(c->net.heads); PyMem_Free(c->net.caps);
    return out;
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

static PyObject *Problem_trace(Problem *p, PyObject *args) {
    PyObject *modes, *tiles_in;
    if (!PyArg_ParseTuple(args, "OO", &modes, &tiles_in)) return NULL;
    i64 *mode, *tiles;
    if (read_choice(p, modes, tiles_in, &mode, &tiles)) return NULL;
    Result result;
    simulate(p, mode, tiles, &result);
    Sim sim = {p, mode, tiles, 0, 0};
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

/* Every operator on `device` where it runs, else on the fastest other device of `mask`. */
static PyObject *Problem_prefer(Problem *p, PyObject *args) {
    long long device;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "LK", &device, &mask)) return NULL;
    i64 *modes = zeros(p->n);
    if (!modes) return NULL;
    PyObject *out = NULL;
    for (i64 v = 0; v < p->n; v++) {
        i64 best = -1;
        for (i64 m = p->mode_ptr[v]; m < p->mode_ptr[v + 1]; m++) {
            if (!(mask >> p->mode_device[m] & 1)) continue;
            int here = p->mode_device[m] == device, was = best >= 0 && p->mode_device[best] == device;
            if (best < 0 || here > was || (here == was && p->mode_work[m] < p->mode_work[best])) best = m;
        }
        if (best < 0) { PyMem_Free(modes); Py_RETURN_NONE; }
        modes[v] = best - p->mode_ptr[v];
    }
    out = ints_to_list(modes, p->n);
    PyMem_Free(modes);
    return out;
}

static PyObject *Problem_counts(Problem *p, PyObject *args) {
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

static PyMethodDef Problem_methods[] = {
    {"climb", (PyCFunction)Problem_climb, METH_VARARGS, "Local search; see reference.py."},
    {"prefer", (PyCFunction)Problem_prefer, METH_VARARGS, "Everything on one device; see reference.py."},
    {"score", (PyCFunction)Problem_score, METH_VARARGS, "Score of one placement; see reference.py."},
    {"counts", (PyCFunction)Problem_counts, METH_VARARGS, "Tiles to wait for; see reference.py."},
    {"cut", (PyCFunction)Problem_cut, METH_VARARGS, "Optimal additive placement; see cutting.py."},
    {"trace", (PyCFunction)Problem_trace, METH_VARARGS, "Schedule of one placement; see reference.py."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ProblemType = {
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

/* --- first fit -------------------------------------------------------------------------------- */

typedef struct { i64 offset, end; } Span;

static int compare_spans(const void *a, const void *b) {
    const Span *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static PyObject *first_fit(PyObject *self, PyObject *args) {
    PyObject *order_in, *starts_in, *ends_in, *sizes_in;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOO", &order_in, &starts_in, &ends_in, &sizes_in)) return NULL;
    i64 n = PySequence_Size(order_in);
    i64 *order = read_ints(order_in, n, "order"), *starts = NULL, *ends = NULL, *sizes = NULL;
    if (order && (starts = read_ints(starts_in, n, "starts")) && (ends = read_ints(ends_in, n, "ends")))
        sizes = read_ints(sizes_in, n, "sizes");
    i64 *offsets = sizes ? zeros(n) : NULL;
    Span *spans = offsets ? PyMem_Malloc(sizeof(Span) * (size_t)(n + 1)) : NULL;
    PyObject *out = NULL;
    if (!spans) goto done;
    for (i64 i = 0; i < n; i++) {
        i64 b = order[i], count = 0, at = 0;
        if (b < 0 || b >= n) { PyErr_SetString(PyExc_ValueError, "order out of range"); goto done; }
        for (i64 j = 0; j < i; j++) {
            i64 o = order[j];
            if (starts[o] < ends[b] && starts[b] < ends[o]) spans[count++] = (Span){offsets[o], offsets[o] + sizes[o]};
        }
        qsort(spans, (size_t)count, sizeof(Span), compare_spans);
        for (i64 j = 0; j < count; j++) {
            if (spans[j].offset - at >= sizes[b]) break;
            if (spans[j].end > at) at = spans[j].end;
        }
        offsets[b] = at;
    }
    out = ints_to_list(offsets, n);
done:
    PyMem_Free(order); PyMem_Free(starts); PyMem_Free(ends); PyMem_Free(sizes); PyMem_Free(offsets); PyMem_Free(spans);
    return out;
}

/* --- waits that protect reused memory ----------------------------------------------------------- */

typedef struct { i64 start, end, id; } Keyed;

static int compare_keyed(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Users, latest end first. */
static int compare_users(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->end != y->end) return x->end > y->end ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static PyObject *reuse_waits(PyObject *self, PyObject *args) {
    enum { START, END, QUEUE, PLACE, WAIT_PTR, WAIT_TASK, WAIT_DONE, WRITE_PTR, WRITE, TOUCH_PTR, TOUCH,
           MEMORY, OFFSET, SIZE, BORN, DIED, COUNT };
    PyObject *given[COUNT];
    i64 *in[COUNT] = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOOOOOOOO", given, given + 1, given + 2, given + 3, given + 4, given + 5,
                          given + 6, given + 7, given + 8, given + 9, given + 10, given + 11, given + 12, given + 13,
                          given + 14, given + 15))
        return NULL;
    i64 n = PySequence_Size(given[START]), nb = PySequence_Size(given[MEMORY]), queues = 1;
    PyObject *out = NULL;
    Keyed *order = NULL, *tenants = NULL, *users = NULL;
    i64 *clock = NULL, *stamp = NULL, *last = NULL, *position = NULL;
    for (int i = 0; i < COUNT; i++)
        if (!(in[i] = read_ints(given[i], -1, "reuse_waits"))) goto done;
    for (i64 t = 0; t < n; t++) if (in[QUEUE][t] >= queues) queues = in[QUEUE][t] + 1;
    order = PyMem_Calloc((size_t)n + 1, sizeof(Keyed));
    tenants = PyMem_Calloc((size_t)nb + 1, sizeof(Keyed));
    users = PyMem_Calloc((size_t)n + 1, sizeof(Keyed));
    clock = zeros(n * queues);
    stamp = zeros(n);
    last = zeros(queues);
    position = zeros(nb);
    if (!order || !tenants || !users || !clock || !stamp || !last || !position || !(out = PyList_New(0))) goto done;
    for (i64 b = 0; b < nb; b++) tenants[b] = (Keyed){in[BORN][b], in[DIED][b], b};
    qsort(tenants, (size_t)nb, sizeof(Keyed), compare_keyed);
    for (i64 i = 0; i < nb; i++) position[tenants[i].id] = i;
    for (i64 t = 0; t < n; t++) { order[t] = (Keyed){in[START][t], in[END][t], t}; stamp[t] = -1; }
    qsort(order, (size_t)n, sizeof(Keyed), compare_keyed);
    for (i64 q = 0; q < queues; q++) last[q] = -1;
    for (i64 i = 0; i < n; i++) {
        i64 t = order[i].id, q = in[QUEUE][t], *now = clock + t * queues;
        if (last[q] >= 0) memcpy(now, clock + last[q] * queues, sizeof(i64) * (size_t)queues);
        now[q] = in[PLACE][t];
        last[q] = t;
        for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
            i64 u = in[WAIT_TASK][w];
            if (in[WAIT_DONE][w] < 0) continue;
            for (i64 k = 0; k < queues; k++) if (clock[u * queues + k] > now[k]) now[k] = clock[u * queues + k];
            if (in[WAIT_DONE][w] && in[PLACE][u] + 1 > now[in[QUEUE][u]]) now[in[QUEUE][u]] = in[PLACE][u] + 1;
        }
        i64 nusers = 0;
        for (i64 w = in[WRITE_PTR][t]; w < in[WRITE_PTR][t + 1]; w++) {
            i64 b = in[WRITE][w], low = in[OFFSET][b], high = low + in[SIZE][b];
            for (i64 j = 0; j < position[b]; j++) {
                i64 o = tenants[j].id;
                if (in[MEMORY][o] != in[MEMORY][b] || in[OFFSET][o] >= high || low >= in[OFFSET][o] + in[SIZE][o]) continue;
                for (i64 k = in[TOUCH_PTR][o]; k < in[TOUCH_PTR][o + 1]; k++) {
                    i64 u = in[TOUCH][k];
                    if (u == t || stamp[u] == t || now[in[QUEUE][u]] > in[PLACE][u]) continue;
                    stamp[u] = t;
                    users[nusers++] = (Keyed){0, in[END][u], u};
                }
            }
        }
        qsort(users, (size_t)nusers, sizeof(Keyed), compare_users);
        for (i64 j = 0; j < nusers; j++) {
            i64 u = users[j].id, uq = in[QUEUE][u];
            if (now[uq] > in[PLACE][u]) continue;
            for (i64 k = 0; k < queues; k++) if (clock[u * queues + k] > now[k]) now[k] = clock[u * queues + k];
            if (in[PLACE][u] + 1 > now[uq]) now[uq] = in[PLACE][u] + 1;
            PyObject *pair = Py_BuildValue("(LL)", t, u);
            if (!pair || PyList_Append(out, pair)) { Py_XDECREF(pair); goto done; }
            Py_DECREF(pair);
        }
    }
    for (int i = 0; i < COUNT; i++) PyMem_Free(in[i]);
    memset(in, 0, sizeof(in));
    PyMem_Free(order); PyMem_Free(tenants); PyMem_Free(users); PyMem_Free(clock);
    PyMem_Free(stamp); PyMem_Free(last); PyMem_Free(position);
    return out;
done:
    for (int i = 0; i < COUNT; i++) PyMem_Free(in[i]);
    PyMem_Free(order); PyMem_Free(tenants); PyMem_Free(users); PyMem_Free(clock);
    PyMem_Free(stamp); PyMem_Free(last); PyMem_Free(position);
    Py_XDECREF(out);
    if (!PyErr_Occurred()) PyErr_NoMemory();
    return NULL;
}

/* --- the most bytes alive at once --------------------------------------------------------------- */

static PyObject *peak_bytes(PyObject *self, PyObject *args) {
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

static PyMethodDef module_methods[] = {
    {"peak_bytes", peak_bytes, METH_VARARGS, "The most bytes alive at once; see packing.py."},
    {"reuse_waits", reuse_waits, METH_VARARGS, "Waits that protect reused memory; see packing.py."},
    {"first_fit", first_fit, METH_VARARGS, "Offsets by first fit; see packing.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", "Compiled twin of h4hc.passes.core.reference.", -1, module_methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
    if (PyType_Ready(&ProblemType) < 0) return NULL;
    PyObject *m = PyModule_Create(&module);
    if (!m) return NULL;
    Py_INCREF(&ProblemType);
    if (PyModule_AddObject(m, "Problem", (PyObject *)&ProblemType) < 0) { Py_DECREF(m); return NULL; }
    return m;
}
