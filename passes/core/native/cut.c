/* The optimal additive placement on two devices: a minimum cut by Dinic's algorithm. */
#include "native.h"

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
    i64 cost_of[MAX_DEVICES], mode_of[MAX_DEVICES], seen = 0;
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

PyObject *Problem_cut(Problem *p, PyObject *args) {
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
