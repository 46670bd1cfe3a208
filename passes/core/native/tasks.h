/* What a task of a placement is: where it runs, how long, and what its tiles wait for. */
#ifndef H4HC_TASKS_H
#define H4HC_TASKS_H

#include "native.h"

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

/* `tiles_needed` of all tiles of v, for a source of several tiles. Searches ask the same again and again. */
static inline const unsigned char *needs_of(Problem *p, i64 e, i64 v, i64 made_rows, i64 tiles, i64 count) {
    unsigned char *row = p->need + e * MAX_TILES;
    unsigned short key = (unsigned short)(tiles * (MAX_TILES + 1) + count);
    if (p->need_key[e] != key) {
        p->need_key[e] = key;
        for (i64 k = 0; k < tiles; k++) row[k] = (unsigned char)tiles_needed(p, e, v, made_rows, k, tiles, count);
    }
    return row;
}

/* The tensor that transfer x copies. */
static inline i64 tensor_of(const Problem *p, i64 x) { return (i64)((uint32_t)x / (uint32_t)p->nm); }

static inline i64 operator_work(const Sim *s, i64 v) {
    const Problem *p = s->p;
    i64 m = p->mode_ptr[v] + s->mode[v];
    return p->mode_work[m] + (s->tiles[v] - 1) * p->dev_overhead[p->mode_device[m]];
}

static inline i64 transfer_link(const Sim *s, i64 x) {
    i64 memories = s->p->nm, tensor = tensor_of(s->p, x);
    return s->p->link_of[source_memory(s, tensor) * memories + x - tensor * memories];
}

/* The chunks in which transfer x goes: as many as its tensor has tiles. */
static inline i64 chunks_of(const Sim *s, i64 x) {
    i64 u = s->p->producer[tensor_of(s->p, x)];
    return u < 0 ? 1 : s->tiles[u];
}

static inline i64 transfer_work(const Sim *s, i64 x) {
    const Problem *p = s->p;
    i64 link = transfer_link(s, x);
    return p->xfer_work[link * p->nt + tensor_of(p, x)] + (chunks_of(s, x) - 1) * p->link_overhead[link];
}

#endif
