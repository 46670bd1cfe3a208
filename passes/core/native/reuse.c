/* Waits that protect reused memory; see reuse.py. */
#include "native.h"

enum { START, END, QUEUE, PLACE, WAIT_PTR, WAIT_TASK, WAIT_DONE, READ_PTR, READ, WRITE_PTR, WRITE,
       MEMORY, OFFSET, SIZE, BORN, DIED, COUNT };

typedef struct { i64 memory, low, high, id; } Region;

typedef struct {
    i64 *in[COUNT], n, nb, queues;
    /* Where buffers lie: by number, and in the order in which they come to life. */
    Region *regions, *tenants;
    /* Per task whether it only joins or divides; per buffer whether it is written, whether it is overwritten, and its users. */
    i64 *idle, *real, *replaced, *user_ptr, *user;
    /* Lists, by buffer, of those that it lies in or that lie in it; links are numbered from 1, 0 ends a list. */
    i64 links, *link, *next, *to;
    /* Scratch: tasks and buffers that are known already in the round at hand, buffers to look at. */
    i64 *stamp, *seen, round, *stack;
    Keyed *order, *born, *users;
    i64 *clock, *last, *position;
} Reuse;

static int touch(const Region *a, const Region *b) {
    return a->low < b->high && b->low < a->high && a->memory == b->memory;
}

static void join(Reuse *r, i64 a, i64 b) {
    r->links++;
    r->to[r->links] = b;
    r->next[r->links] = r->link[a];
    r->link[a] = r->links;
}

static void order_tenants(Reuse *r) {
    i64 *const *in = r->in;
    for (i64 b = 0; b < r->nb; b++) {
        r->regions[b] = (Region){in[MEMORY][b], in[OFFSET][b], in[OFFSET][b] + in[SIZE][b], b};
        r->born[b] = (Keyed){in[BORN][b], in[DIED][b], b};
    }
    qsort(r->born, (size_t)r->nb, sizeof(Keyed), compare_keyed);
    for (i64 i = 0; i < r->nb; i++) {
        r->tenants[i] = r->regions[r->born[i].id];
        r->position[r->born[i].id] = i;
    }
}

/* What operators write lies in what they read or the other way round, or is the same. */
static void find_shared(Reuse *r) {
    i64 *const *in = r->in;
    for (i64 t = 0; t < r->n; t++)
        for (i64 w = in[WRITE_PTR][t]; w < in[WRITE_PTR][t + 1]; w++)
            for (i64 k = in[READ_PTR][t]; k < in[READ_PTR][t + 1]; k++) {
                i64 fresh = in[WRITE][w], old = in[READ][k];
                if (!touch(r->regions + old, r->regions + fresh)) continue;
                if (in[OFFSET][old] == in[OFFSET][fresh] && in[SIZE][old] == in[SIZE][fresh]) {
                    r->replaced[old] = 1;
                } else {
                    r->idle[t] = 1;
                    join(r, old, fresh);
                    join(r, fresh, old);
                }
            }
    for (i64 t = 0; t < r->n; t++)
        for (i64 w = in[WRITE_PTR][t]; w < in[WRITE_PTR][t + 1] && !r->idle[t]; w++) r->real[in[WRITE][w]] = 1;
}

static int writes(const Reuse *r, i64 t, i64 b) {
    for (i64 w = r->in[WRITE_PTR][t]; w < r->in[WRITE_PTR][t + 1] && !r->idle[t]; w++)
        if (r->in[WRITE][w] == b) return 1;
    return 0;
}

/* Count the users of each buffer or, if `fill`, list them. The writer of what is overwritten is none. */
static void visit_users(Reuse *r, int fill) {
    const int pointers[] = {READ_PTR, WRITE_PTR}, values[] = {READ, WRITE};
    for (i64 t = 0; t < r->n; t++)
        for (int k = 0; k < 2; k++)
            for (i64 i = r->in[pointers[k]][t]; i < r->in[pointers[k]][t + 1]; i++) {
                i64 b = r->in[values[k]][i];
                if (r->replaced[b] && writes(r, t, b)) continue;
                if (fill) r->user[r->user_ptr[b]] = t;
                r->user_ptr[b + (fill ? 0 : 1)]++;
            }
}

static void list_users(Reuse *r) {
    visit_users(r, 0);
    for (i64 b = 0; b < r->nb; b++) r->user_ptr[b + 1] += r->user_ptr[b];
    visit_users(r, 1);
    for (i64 b = r->nb; b > 0; b--) r->user_ptr[b] = r->user_ptr[b - 1];
    r->user_ptr[0] = 0;
}

/* Task t takes over addresses of buffer b: add to its `count` users those of b that may not be done by then. */
static i64 add_users(Reuse *r, i64 b, i64 t, const i64 *now, i64 count) {
    for (i64 k = r->user_ptr[b]; k < r->user_ptr[b + 1]; k++) {
        i64 u = r->user[k];
        if (u == t || r->stamp[u] == t || now[r->in[QUEUE][u]] > r->in[PLACE][u]) continue;
        r->stamp[u] = t;
        r->users[count++] = (Keyed){0, r->in[END][u], u};
    }
    return count;
}

/* The same of all buffers that share a whole with b, if b is written at all. */
static i64 add_family(Reuse *r, i64 b, i64 t, const i64 *now, i64 count) {
    i64 waiting = 0;
    if (!r->link[b]) return add_users(r, b, t, now, count);
    if (!r->real[b]) return count;
    r->round++;
    r->seen[b] = r->round;
    r->stack[waiting++] = b;
    while (waiting) {
        i64 member = r->stack[--waiting];
        count = add_users(r, member, t, now, count);
        for (i64 l = r->link[member]; l; l = r->next[l]) {
            i64 other = r->to[l];
            if (r->seen[other] == r->round || !touch(r->regions + other, r->regions + b)) continue;
            r->seen[other] = r->round;
            r->stack[waiting++] = other;
        }
    }
    return count;
}

/* Users, latest end first. */
static int compare_users(const void *a, const void *b) {
    const Keyed *x = a, *y = b;
    if (x->end != y->end) return x->end > y->end ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void join_clock(const Reuse *r, i64 *now, i64 u) {
    const i64 *other = r->clock + u * r->queues;
    for (i64 k = 0; k < r->queues; k++) if (other[k] > now[k]) now[k] = other[k];
}

/* `u` has finished. */
static void finished(const Reuse *r, i64 *now, i64 u) {
    i64 queue = r->in[QUEUE][u], place = r->in[PLACE][u] + 1;
    if (place > now[queue]) now[queue] = place;
}

/* Append the waits of task t to `out`; -1 and an exception if that fails. */
static int protect(Reuse *r, i64 t, PyObject *out) {
    i64 *const *in = r->in, q = in[QUEUE][t], *now = r->clock + t * r->queues, count = 0;
    if (r->last[q] >= 0) memcpy(now, r->clock + r->last[q] * r->queues, sizeof(i64) * (size_t)r->queues);
    now[q] = in[PLACE][t];
    r->last[q] = t;
    for (i64 w = in[WAIT_PTR][t]; w < in[WAIT_PTR][t + 1]; w++) {
        if (in[WAIT_DONE][w] < 0) continue;
        join_clock(r, now, in[WAIT_TASK][w]);
        if (in[WAIT_DONE][w]) finished(r, now, in[WAIT_TASK][w]);
    }
    for (i64 w = in[WRITE_PTR][t]; w < in[WRITE_PTR][t + 1] && !r->idle[t]; w++) {
        const Region *mine = r->regions + in[WRITE][w], *end = r->tenants + r->position[in[WRITE][w]];
        for (const Region *other = r->tenants; other < end; other++)
            if (touch(other, mine)) count = add_family(r, other->id, t, now, count);
    }
    qsort(r->users, (size_t)count, sizeof(Keyed), compare_users);
    for (i64 j = 0; j < count; j++) {
        i64 u = r->users[j].id;
        if (now[in[QUEUE][u]] > in[PLACE][u]) continue;
        join_clock(r, now, u);
        finished(r, now, u);
        PyObject *pair = Py_BuildValue("(LL)", t, u);
        if (!pair || PyList_Append(out, pair)) { Py_XDECREF(pair); return -1; }
        Py_DECREF(pair);
    }
    return 0;
}

/* Room for all but what is given; -1 and an exception if there is none. */
static int make_room(Reuse *r) {
    i64 pairs = 0, uses = r->in[READ_PTR][r->n] + r->in[WRITE_PTR][r->n];
    for (i64 t = 0; t < r->n; t++)
        pairs += (r->in[READ_PTR][t + 1] - r->in[READ_PTR][t]) * (r->in[WRITE_PTR][t + 1] - r->in[WRITE_PTR][t]);
    struct { i64 **array; i64 count; } all[] = {
        {&r->idle, r->n}, {&r->real, r->nb}, {&r->replaced, r->nb}, {&r->user_ptr, r->nb + 1}, {&r->user, uses},
        {&r->link, r->nb}, {&r->next, 2 * pairs + 1}, {&r->to, 2 * pairs + 1}, {&r->stamp, r->n}, {&r->seen, r->nb},
        {&r->stack, r->nb}, {&r->clock, r->n * r->queues}, {&r->last, r->queues}, {&r->position, r->nb},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!(*all[i].array = zeros(all[i].count))) return -1;
    r->order = PyMem_Malloc(sizeof(Keyed) * (size_t)(r->n + 1));
    r->born = PyMem_Malloc(sizeof(Keyed) * (size_t)(r->nb + 1));
    r->users = PyMem_Malloc(sizeof(Keyed) * (size_t)(r->n + 1));
    r->regions = PyMem_Malloc(sizeof(Region) * (size_t)(r->nb + 1));
    r->tenants = PyMem_Malloc(sizeof(Region) * (size_t)(r->nb + 1));
    if (r->order && r->born && r->users && r->regions && r->tenants) return 0;
    PyErr_NoMemory();
    return -1;
}

static void end_reuse(Reuse *r) {
    void *all[] = {r->idle, r->real, r->replaced, r->user_ptr, r->user, r->link, r->next, r->to, r->stamp, r->seen,
                   r->stack, r->clock, r->last, r->position, r->order, r->born, r->users, r->regions, r->tenants};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    for (int i = 0; i < COUNT; i++) PyMem_Free(r->in[i]);
}

PyObject *reuse_waits(PyObject *self, PyObject *args) {
    Reuse reuse = {0}, *r = &reuse;
    PyObject *out = NULL;
    (void)self;
    if (PyTuple_GET_SIZE(args) != COUNT) {
        PyErr_Format(PyExc_TypeError, "reuse_waits takes %d columns", COUNT);
        return NULL;
    }
    for (int i = 0; i < COUNT; i++)
        if (!(r->in[i] = read_ints(PyTuple_GET_ITEM(args, i), -1, "reuse_waits"))) goto done;
    r->n = PySequence_Size(PyTuple_GET_ITEM(args, START));
    r->nb = PySequence_Size(PyTuple_GET_ITEM(args, MEMORY));
    r->queues = 1;
    for (i64 t = 0; t < r->n; t++) if (r->in[QUEUE][t] >= r->queues) r->queues = r->in[QUEUE][t] + 1;
    if (make_room(r) || !(out = PyList_New(0))) goto done;
    order_tenants(r);
    find_shared(r);
    list_users(r);
    for (i64 t = 0; t < r->n; t++) { r->order[t] = (Keyed){r->in[START][t], r->in[END][t], t}; r->stamp[t] = -1; }
    qsort(r->order, (size_t)r->n, sizeof(Keyed), compare_keyed);
    for (i64 q = 0; q < r->queues; q++) r->last[q] = -1;
    for (i64 i = 0; i < r->n; i++)
        if (protect(r, r->order[i].id, out)) { Py_CLEAR(out); goto done; }
done:
    end_reuse(r);
    return out;
}
