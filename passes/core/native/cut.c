/* The optimal additive placement on two devices: a minimum cut. */
#include "flow.h"

typedef struct { i64 first, second, first_cost, second_cost, pinned_mode, memory; int pinned; } Choice;

typedef struct {
    const Problem *p;
    i64 first, second;
    double time, energy, balance, price;
    Network net;
    Flow flow;
    int wired; /* whether the arcs between nodes are there; they are the same for all prices */
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
        k->first_cost = cost_of[best];
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

/* The arcs between nodes, and the costs of transfers to pinned operators; nothing flows yet. -1 without memory. */
static int wire(Cut *c) {
    const Problem *p = c->p;
    c->net.nodes = 2 + p->n;
    c->net.arcs = 0;
    memset(c->extra, 0, sizeof(i64) * (size_t)(2 * p->n));
    for (i64 t = 0; t < p->nt; t++) connect_tensor(c, t);
    c->wired = !c->net.failed && !begin_flow(&c->flow, &c->net);
    return c->wired ? 0 : -1;
}

/* What comes from the source to operator v (1: what goes from there to the sink): its cost on the other side. */
static i64 terminal(const Cut *c, i64 v, int sink) {
    const Choice *k = c->choice + v;
    if (k->pinned) return 0;
    if (sink) return k->first < 0 ? INFINITE_CAPACITY : k->first_cost + c->extra[2 * v];
    return k->second < 0 ? INFINITE_CAPACITY : k->second_cost + c->extra[2 * v + 1];
}

/* The modes of the least weighted cost, and that cost but for what never changes. 1: done, 0: an operator runs nowhere, -1: failed. */
static int solve(Cut *c, uint64_t mask, i64 *modes, i64 *value) {
    const Problem *p = c->p;
    const Network *g = &c->net;
    Flow *f = &c->flow;
    *value = 0;
    for (i64 v = 0; v < p->n; v++) {
        i64 memory = c->choice[v].memory;
        if (!choose(c, v, mask)) return 0;
        if (!c->choice[v].pinned) continue;
        *value += c->choice[v].first_cost;
        if (c->choice[v].memory != memory) c->wired = 0;
    }
    if (!c->wired && wire(c)) { PyErr_NoMemory(); return -1; }
    memset(f->terminal, 0, sizeof(i64) * (size_t)g->nodes);
    for (i64 v = 0; v < p->n; v++) f->terminal[2 + v] = terminal(c, v, 0) - terminal(c, v, 1);
    for (i64 e = 0; e < g->arcs; e++) {
        if (g->tails[e] == 0) f->terminal[g->heads[e]] += g->caps[e];
        if (g->heads[e] == 1) f->terminal[g->tails[e]] -= g->caps[e];
    }
    send_all(f, g->nodes);
    f->level[0] = 0; /* the source and the sink */
    f->level[1] = -1;
    for (i64 e = 0; e < g->arcs; e++) if (f->level[g->tails[e]] >= 0 && f->level[g->heads[e]] < 0) *value += g->caps[e];
    for (i64 v = 0; v < p->n; v++) {
        const Choice *k = c->choice + v;
        int first = f->level[2 + v] >= 0;
        modes[v] = k->pinned ? k->pinned_mode : first ? k->first : k->second;
        *value += terminal(c, v, first);
    }
    return 1;
}

static int begin_cut(Cut *c, const Problem *p, long long first, long long second) {
    if (first < 0 || first >= p->nd || second < 0 || second >= p->nd) {
        PyErr_SetString(PyExc_ValueError, "no such device");
        return -1;
    }
    c->p = p;
    c->first = first;
    c->second = second;
    c->choice = PyMem_Calloc((size_t)p->n + 1, sizeof(Choice));
    c->extra = zeros(2 * p->n);
    if (c->choice && c->extra) return 0;
    PyErr_NoMemory();
    return -1;
}

static void end_cut(Cut *c) {
    PyMem_Free(c->choice); PyMem_Free(c->extra);
    end_flow(&c->flow);
    PyMem_Free(c->net.tails); PyMem_Free(c->net.heads); PyMem_Free(c->net.caps);
}

PyObject *Problem_cut(Problem *p, PyObject *args) {
    Cut cut = {0}, *c = &cut;
    long long first, second;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "LLKdddd", &first, &second, &mask, &c->time, &c->energy, &c->balance, &c->price))
        return NULL;
    PyObject *out = NULL;
    i64 value, *modes = NULL;
    if (!begin_cut(c, p, first, second) && (modes = zeros(p->n))) {
        int found = solve(c, mask, modes, &value);
        if (found >= 0) out = found ? ints_to_list(modes, p->n) : Py_NewRef(Py_None);
    }
    PyMem_Free(modes);
    end_cut(c);
    return out;
}

/* --- the cut whose weights fit ------------------------------------------------------------------ */

#define PRICES 14 /* that are tried */

/* A cut: its modes, their resident bytes, and their cost without the price of these. */
typedef struct { i64 *modes, bytes; double price, cost; int fits; } Priced;

/* A price per byte at which no resident mode is worth its weights. */
static double highest_price(const Cut *c) {
    const Problem *p = c->p;
    double worst = 1.0;
    for (i64 m = 0; m < p->mode_ptr[p->n]; m++) {
        if (!p->mode_resident[m]) continue;
        double cost = c->time * (double)p->mode_work[m] + c->energy * (double)p->mode_energy[m];
        double price = 64.0 * (cost + 1.0) / (double)p->mode_resident[m];
        if (price > worst) worst = price;
    }
    return worst;
}

static int solve_at(Cut *c, uint64_t mask, double price, Priced *out) {
    const Problem *p = c->p;
    i64 value, used[MAX_DEVICES] = {0};
    c->price = price;
    int found = solve(c, mask, out->modes, &value);
    if (found <= 0) return found;
    out->fits = 1;
    out->bytes = 0;
    for (i64 v = 0; v < p->n; v++) {
        i64 m = p->mode_ptr[v] + out->modes[v];
        used[p->mode_device[m]] += p->mode_resident[m];
        out->bytes += p->mode_resident[m];
    }
    for (i64 d = 0; d < p->nd; d++) if (used[d] > p->dev_capacity[d]) out->fits = 0;
    out->price = price;
    out->cost = (double)value - price * (double)out->bytes;
    return 1;
}

/* The cheapest cut in `low` does not fit, that in `high` does. Where their costs are equal, a better one may lie between. */
static int between_prices(Cut *c, uint64_t mask, Priced *low, Priced *high, Priced *spare) {
    for (int step = 0; step < PRICES && low->bytes > high->bytes; step++) {
        double price = (high->cost - low->cost) / (double)(low->bytes - high->bytes);
        if (!(low->price < price && price < high->price)) break;
        if (solve_at(c, mask, price, spare) < 0) return -1;
        Priced *end = spare->fits ? high : low, kept = *end;
        if (spare->bytes == end->bytes) break;
        *end = *spare;
        *spare = kept;
    }
    return 0;
}

PyObject *Problem_cut_within(Problem *p, PyObject *args) {
    Cut cut = {0}, *c = &cut;
    long long first, second;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "LLKddd", &first, &second, &mask, &c->time, &c->energy, &c->balance)) return NULL;
    PyObject *out = NULL, *list = NULL;
    Priced low = {0}, high = {0}, spare = {0};
    if (begin_cut(c, p, first, second) || !(low.modes = zeros(p->n)) || !(high.modes = zeros(p->n)) ||
        !(spare.modes = zeros(p->n)))
        goto done;
    int found = solve_at(c, mask, 0.0, &low), status = 0;
    if (found < 0) goto done;
    if (!found) { out = Py_BuildValue("(iO)", 0, Py_None); goto done; }
    if (!low.fits) {
        if (solve_at(c, mask, highest_price(c), &high) < 0) goto done;
        status = high.fits ? 1 : -1;
        if (high.fits && between_prices(c, mask, &low, &high, &spare)) goto done;
    }
    list = ints_to_list(status == 1 ? high.modes : low.modes, p->n);
    if (list) out = Py_BuildValue("(iN)", status, list);
done:
    PyMem_Free(low.modes); PyMem_Free(high.modes); PyMem_Free(spare.modes);
    end_cut(c);
    return out;
}
