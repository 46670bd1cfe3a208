/* Buffers to spill; see spilling.py and h4hc.passes.sharing. */
#include "tasks.h"

#define STEPS 400 /* of the climb over orders */
#define MOST 2000 /* buffers for which there is a climb */

typedef struct { i64 start, end, size, tensor; } Span;

/* The whole problem; where and when operators run, and when copies arrive; the buffers of one memory with those that they lie
 * in, the bytes from there and their blocks; the blocks with their buffers, and as columns. */
typedef struct {
    Problem *p;
    i64 *size, parts, *part, writes, *write, *gone;
    i64 *memory, *start, *end, *moved;
    i64 here, alignment, room;
    i64 *number, *inside, *joined, *spent, *block, *listed, *family;
    i64 count, blocks, *leader, *starts, *ends, *sizes, *offsets;
    Span *buffer, *span;
} Spill;

/* The numbers of the rows of `seq`, each of `width`; -1 and an exception if they are none. */
static i64 read_rows(PyObject *seq, Py_ssize_t width, i64 **out) {
    PyObject *fast = PySequence_Fast(seq, "overflowing: rows");
    if (!fast) return -1;
    i64 count = PySequence_Fast_GET_SIZE(fast);
    i64 *values = *out = zeros(count * width);
    for (i64 i = 0; values && i < count; i++) {
        PyObject *row = PySequence_Fast_GET_ITEM(fast, i);
        if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) != width) {
            PyErr_SetString(PyExc_TypeError, "overflowing: a row is a tuple");
            break;
        }
        for (Py_ssize_t k = 0; k < width; k++) values[i * width + k] = PyLong_AsLongLong(PyTuple_GET_ITEM(row, k));
    }
    Py_DECREF(fast);
    return PyErr_Occurred() ? -1 : count;
}

static int within(i64 value, i64 low, i64 high) {
    if (value >= low && value < high) return 1;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "overflowing: a number is out of range");
    return 0;
}

/* When and where the tasks of `rows` run. */
static int read_course(Spill *s, const i64 *mode, const i64 *rows, i64 count) {
    const Problem *p = s->p;
    for (i64 v = 0; v < p->n; v++) s->memory[v] = p->dev_memory[p->mode_device[p->mode_ptr[v] + mode[v]]];
    for (i64 i = 0; i < count; i++) {
        const i64 *row = rows + 5 * i;
        if (!within(row[1], -1, p->nm) || !within(row[0], 0, row[1] < 0 ? p->n : p->nt)) return -1;
        if (row[1] < 0) { s->start[row[0]] = row[3]; s->end[row[0]] = row[4]; }
        else s->moved[row[0] * p->nm + row[1]] = row[4];
    }
    return 0;
}

/* The number of the buffer of tensor t where operator v works, if that is the memory at hand. */
static i64 buffer_at(const Spill *s, i64 t, i64 v) { return s->memory[v] == s->here ? s->number[t] : -1; }

/* Whether operator v is the last to use `old`, and `fresh` fits in its place. */
static int dies(const Spill *s, i64 v, const Span *old, const Span *fresh) {
    const Problem *p = s->p;
    i64 begin = s->start[v], t = old->tensor, u = p->producer[t], home = u >= 0 ? s->memory[u] : p->io_memory;
    if (s->here == p->io_memory && (u < 0 || p->sink[t])) return 0;
    if (old->size != fresh->size || !old->size || old->start >= begin) return 0;
    for (i64 i = p->cons_ptr[t]; i < p->cons_ptr[t + 1]; i++) {
        i64 w = p->cons_op[i];
        if (w != v && s->memory[w] == s->here && !(s->start[w] < begin && s->end[w] <= begin)) return 0;
    }
    for (i64 m = 0; s->here == home && m < p->nm; m++)
        if (m != s->here && s->moved[t * p->nm + m] > begin) return 0;
    return 1;
}

/* The block of every buffer. */
static void find_places(Spill *s) {
    for (i64 i = 0; i < s->count; i++) {
        s->number[s->buffer[i].tensor] = i;
        s->inside[i] = -1;
        s->joined[i] = s->spent[i] = 0;
    }
    for (i64 k = 0; k < s->parts; k++) {
        const i64 *part = s->part + 4 * k;
        i64 i = buffer_at(s, part[1], part[0]), j = buffer_at(s, part[2], part[0]);
        if (i >= 0 && j >= 0) s->inside[i] = j;
    }
    for (i64 i = 0; i < s->count; i++)
        if (s->inside[i] >= 0) s->joined[i] = s->joined[s->inside[i]] = 1;
    for (i64 k = 0; k < s->writes; k++) {
        const i64 *write = s->write + 3 * k;
        i64 i = buffer_at(s, write[1], write[0]), j = buffer_at(s, write[2], write[0]);
        if (i < 0 || j < 0 || s->joined[i] || s->joined[j] || s->spent[i] || s->inside[j] >= 0) continue;
        if (!dies(s, write[0], s->buffer + i, s->buffer + j)) continue;
        s->inside[j] = i;
        s->spent[i] = 1;
    }
    for (i64 i = 0; i < s->count; i++) {
        i64 block = i;
        while (s->inside[block] >= 0) block = s->inside[block];
        s->block[i] = block;
        s->number[s->buffer[i].tensor] = -1; /* for the next memory */
    }
}

/* The spans of all blocks, in the order in which buffers first lie in them. */
static void find_blocks(Spill *s) {
    s->blocks = 0;
    for (i64 i = 0; i < s->count; i++) s->listed[i] = -1;
    for (i64 i = 0; i < s->count; i++) {
        i64 b = s->block[i];
        if (s->listed[b] >= 0) continue;
        s->listed[b] = s->blocks;
        s->leader[s->blocks] = b;
        s->span[s->blocks++] = s->buffer[b];
    }
    for (i64 i = 0; i < s->count; i++) {
        Span *span = s->span + s->listed[s->block[i]];
        if (s->buffer[i].start < span->start) span->start = s->buffer[i].start;
        if (s->buffer[i].end > span->end) span->end = s->buffer[i].end;
    }
    for (i64 k = 0; k < s->blocks; k++) {
        const Span *span = s->span + k;
        s->starts[k] = span->start;
        s->ends[k] = span->end > span->start ? span->end : span->start + 1;
        s->sizes[k] = ceil_div(span->size, s->alignment) * s->alignment;
    }
}

/* Mark `tensor` and all that it holds, lies in, or shares a whole with; how many that are. */
static i64 mark_family(Spill *s, i64 tensor, i64 *marks) {
    i64 count = 1;
    s->family[0] = tensor;
    for (i64 k = 0; k < count; k++)
        for (i64 e = 0; e < s->parts; e++) {
            const i64 *part = s->part + 4 * e;
            if (part[1] != s->family[k] && part[2] != s->family[k]) continue;
            i64 other = part[1] == s->family[k] ? part[2] : part[1], known = 0;
            for (i64 i = 0; i < count; i++) known |= s->family[i] == other;
            if (!known) s->family[count++] = other;
        }
    for (i64 k = 0; k < count && count > 1; k++) marks[s->family[k]] = 1;
    return count;
}

/* Mark the buffers that must leave the memory first; how many blocks they are, -1 and an exception if that fails. */
static i64 find_victims(Spill *s, i64 *marks) {
    i64 tick, chosen = 0, alive = 0;
    find_places(s);
    find_blocks(s);
    i64 bound = most_alive(s->blocks, s->starts, s->ends, s->sizes, &tick), fits = 0;
    if (bound >= 0 && bound <= s->room)
        fits = fits_within(s->blocks, s->starts, s->ends, s->sizes, s->offsets, s->room, s->blocks > MOST ? 0 : STEPS);
    Keyed *order = bound < 0 || fits < 0 ? NULL : PyMem_Malloc(sizeof(Keyed) * (size_t)(s->blocks + 1));
    if (!order) { PyErr_NoMemory(); return -1; }
    i64 excess = bound > s->room ? bound - s->room : 1;
    for (i64 k = 0; k < s->blocks && !fits; k++)
        if (s->span[k].start <= tick && tick <= s->span[k].end) order[alive++] = (Keyed){-s->sizes[k], k, k};
    qsort(order, (size_t)alive, sizeof(Keyed), compare_keyed);
    for (i64 a = 0; a < alive && excess > 0 && order[a].start; a++) {
        i64 b = s->leader[order[a].id];
        chosen++;
        excess += order[a].start;
        if (mark_family(s, s->buffer[b].tensor, marks) > 1) continue;
        for (i64 i = 0; i < s->count; i++)
            if (s->block[i] == b && s->buffer[i].start <= tick && tick <= s->buffer[i].end) marks[s->buffer[i].tensor] = 1;
    }
    PyMem_Free(order);
    return chosen;
}

/* Append to `out` what must leave memory `m`, of the buffers in `rows`. */
static int relieve(Spill *s, i64 m, const i64 *rows, i64 count, PyObject *out) {
    const Problem *p = s->p;
    i64 bytes = 0, found, *marks = zeros(p->nt);
    s->here = m;
    s->count = 0;
    for (i64 i = 0; marks && i < count; i++) {
        const i64 *row = rows + 4 * i;
        if (row[1] != m || s->gone[row[0] * p->nm + m] || s->count == p->nt) continue;
        s->buffer[s->count++] = (Span){row[2], row[3], s->size[row[0]], row[0]};
        bytes += ceil_div(s->size[row[0]], s->alignment) * s->alignment;
    }
    found = !marks ? -1 : bytes > s->room ? find_victims(s, marks) : 0;
    while (found > 0) {
        i64 left = 0;
        for (i64 i = 0; i < s->count; i++)
            if (!marks[s->buffer[i].tensor]) s->buffer[left++] = s->buffer[i];
        found = left < s->count;
        s->count = left;
        if (found) found = find_victims(s, marks);
    }
    for (i64 t = 0; t < p->nt && !found; t++) {
        PyObject *pair = marks[t] ? Py_BuildValue("(LL)", t, m) : NULL;
        if (marks[t] && (!pair || PyList_Append(out, pair))) found = -1;
        Py_XDECREF(pair);
    }
    PyMem_Free(marks);
    return found < 0 ? -1 : 0;
}

/* Room for the buffers of one memory, at most one per tensor. */
static int make_room(Spill *s) {
    const Problem *p = s->p;
    struct { i64 **array; i64 count; } all[] = {
        {&s->gone, p->nt * p->nm}, {&s->memory, p->n}, {&s->start, p->n}, {&s->end, p->n}, {&s->moved, p->nt * p->nm},
        {&s->number, p->nt}, {&s->inside, p->nt}, {&s->joined, p->nt}, {&s->spent, p->nt}, {&s->block, p->nt},
        {&s->listed, p->nt}, {&s->family, p->nt}, {&s->leader, p->nt}, {&s->starts, p->nt}, {&s->ends, p->nt},
        {&s->sizes, p->nt}, {&s->offsets, p->nt},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!(*all[i].array = zeros(all[i].count))) return -1;
    for (i64 t = 0; t < p->nt; t++) s->number[t] = -1;
    s->buffer = PyMem_Malloc(sizeof(Span) * (size_t)(p->nt + 1));
    s->span = PyMem_Malloc(sizeof(Span) * (size_t)(p->nt + 1));
    if (s->buffer && s->span) return 0;
    PyErr_NoMemory();
    return -1;
}

static void end_spill(Spill *s) {
    void *all[] = {s->size, s->part, s->write, s->gone, s->memory, s->start, s->end, s->moved, s->number, s->inside, s->joined,
                   s->spent, s->block, s->listed, s->family, s->leader, s->starts, s->ends, s->sizes, s->offsets, s->buffer,
                   s->span};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
}

/* Whether every number of an operator, tensor or memory exists. */
static int in_range(const Spill *s, const i64 *rows, i64 count, const i64 *gone, i64 spilled) {
    const Problem *p = s->p;
    int good = 1;
    for (i64 i = 0; i < s->parts && good; i++)
        good = within(s->part[4 * i], 0, p->n) && within(s->part[4 * i + 1], 0, p->nt) && within(s->part[4 * i + 2], 0, p->nt);
    for (i64 i = 0; i < s->writes && good; i++)
        good = within(s->write[3 * i], 0, p->n) && within(s->write[3 * i + 1], 0, p->nt) &&
               within(s->write[3 * i + 2], 0, p->nt);
    for (i64 i = 0; i < count && good; i++) good = within(rows[4 * i], 0, p->nt) && within(rows[4 * i + 1], 0, p->nm);
    for (i64 i = 0; i < spilled && good; i++) good = within(gone[2 * i], 0, p->nt) && within(gone[2 * i + 1], 0, p->nm);
    return good;
}

PyObject *Problem_overflowing(Problem *p, PyObject *args) {
    PyObject *modes, *rows_in, *buffers_in, *sizes, *parts, *writes, *rooms_in, *gone_in, *out = NULL;
    if (!PyArg_ParseTuple(args, "OOOOOOOO", &modes, &rows_in, &buffers_in, &sizes, &parts, &writes, &rooms_in, &gone_in))
        return NULL;
    Spill spill = {.p = p}, *s = &spill;
    i64 *mode = NULL, *rows = NULL, *buffers = NULL, *rooms = NULL, *gone = NULL, tasks, count, spilled;
    if (read_modes(p, modes, &mode) || (tasks = read_rows(rows_in, 5, &rows)) < 0 ||
        (count = read_rows(buffers_in, 4, &buffers)) < 0 || !(s->size = read_ints(sizes, p->nt, "sizes")) ||
        (s->parts = read_rows(parts, 4, &s->part)) < 0 || (s->writes = read_rows(writes, 3, &s->write)) < 0 ||
        (spilled = read_rows(gone_in, 2, &gone)) < 0 || make_room(s) || read_course(s, mode, rows, tasks) ||
        !in_range(s, buffers, count, gone, spilled))
        goto done;
    if (read_rows(rooms_in, 2, &rooms) != p->nm) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "overflowing: every memory has an alignment and a room");
        goto done;
    }
    for (i64 i = 0; i < spilled; i++) s->gone[gone[2 * i] * p->nm + gone[2 * i + 1]] = 1;
    out = PyList_New(0);
    for (i64 m = 0; out && m < p->nm; m++) {
        s->alignment = rooms[2 * m];
        s->room = rooms[2 * m + 1];
        if (!within(s->alignment, 1, INT64_MAX) || relieve(s, m, buffers, count, out)) Py_CLEAR(out);
    }
done:
    PyMem_Free(mode); PyMem_Free(rows); PyMem_Free(buffers); PyMem_Free(rooms); PyMem_Free(gone);
    end_spill(s);
    return out;
}
