/* Minimum cuts by Dinic's algorithm. */
#include "flow.h"

void add_arc(Network *g, i64 tail, i64 head, i64 capacity) {
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

void end_flow(Flow *f) {
    i64 *all[] = {f->first, f->to, f->left, f->mate, f->terminal, f->moved, f->level, f->next, f->queue, f->path};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) PyMem_Free(all[i]);
    memset(f, 0, sizeof(*f));
}

/* Nothing flows yet. -1 without memory. */
int begin_flow(Flow *f, const Network *g) {
    i64 n = g->nodes, m = g->arcs;
    struct { i64 **array; i64 count; } all[] = {
        {&f->first, n + 2}, {&f->to, 2 * m}, {&f->left, 2 * m}, {&f->mate, 2 * m}, {&f->terminal, n}, {&f->moved, n},
        {&f->level, n}, {&f->next, n + 1}, {&f->queue, n}, {&f->path, n},
    };
    end_flow(f);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!(*all[i].array = zeros(all[i].count))) return -1;
    for (i64 e = 0; e < m; e++) {
        if (g->tails[e] < 2 || g->heads[e] < 2) continue;
        f->first[g->tails[e] + 1]++;
        f->first[g->heads[e] + 1]++;
    }
    for (i64 v = 0; v < n; v++) f->first[v + 1] += f->first[v];
    memcpy(f->next, f->first, sizeof(i64) * (size_t)n);
    for (i64 e = 0; e < m; e++) {
        if (g->tails[e] < 2 || g->heads[e] < 2) continue;
        i64 forth = f->next[g->tails[e]]++, back = f->next[g->heads[e]]++;
        f->to[forth] = g->heads[e]; f->left[forth] = g->caps[e]; f->mate[forth] = back;
        f->to[back] = g->tails[e]; f->mate[back] = forth;
    }
    return 0;
}

static inline i64 excess(const Flow *f, i64 v) { return f->terminal[v] + f->moved[v]; }

/* Levels of the nodes that are reached from those with an excess, up to the level of the first that lacks something. 0: no such
 * node is reached, then the others are all that have a level. */
static int find_levels(Flow *f, i64 n) {
    i64 head = 0, tail = 0, last = INT64_MAX;
    for (i64 v = 2; v < n; v++) {
        f->level[v] = excess(f, v) > 0 ? 0 : -1;
        if (!f->level[v]) f->queue[tail++] = v;
    }
    while (head < tail) {
        i64 v = f->queue[head++];
        if (f->level[v] >= last) break;
        for (i64 i = f->first[v]; i < f->first[v + 1]; i++) {
            i64 w = f->to[i];
            if (!f->left[i] || f->level[w] >= 0) continue;
            f->level[w] = f->level[v] + 1;
            f->queue[tail++] = w;
            if (excess(f, w) < 0) last = f->level[w];
        }
    }
    return last < INT64_MAX;
}

/* Send what node `from` has too much along the levels, to nodes that lack something. */
static void send(Flow *f, i64 from) {
    i64 depth = 0, v = from;
    for (;;) {
        if (excess(f, v) < 0) {
            i64 flow = excess(f, from), cut = 0;
            if (-excess(f, v) < flow) flow = -excess(f, v);
            for (i64 i = 0; i < depth; i++) if (f->left[f->path[i]] < flow) flow = f->left[f->path[i]];
            for (i64 i = depth - 1; i >= 0; i--) {
                f->left[f->path[i]] -= flow;
                f->left[f->mate[f->path[i]]] += flow;
                if (!f->left[f->path[i]]) cut = i;
            }
            f->moved[from] -= flow;
            f->moved[v] += flow;
            if (!excess(f, from)) return;
            depth = cut;
            v = f->to[f->mate[f->path[cut]]];
            continue;
        }
        i64 i = f->next[v], end = f->first[v + 1], level = f->level[v] + 1;
        while (i < end && !(f->left[i] > 0 && f->level[f->to[i]] == level)) i++;
        f->next[v] = i;
        if (i < end) { f->path[depth++] = i; v = f->to[i]; continue; }
        if (v == from) return;
        f->level[v] = -1;
        v = f->to[f->mate[f->path[--depth]]];
        f->next[v]++;
    }
}

/* Send all that can be sent. After it, the nodes with a level are those on the side of the source. */
void send_all(Flow *f, i64 n) {
    while (find_levels(f, n)) {
        memcpy(f->next, f->first, sizeof(i64) * (size_t)n);
        for (i64 v = 2; v < n; v++) if (excess(f, v) > 0) send(f, v);
    }
}
