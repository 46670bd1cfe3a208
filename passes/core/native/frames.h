/* The list that every window of a periodic schedule runs, and when it ran. */
#ifndef H4HC_FRAMES_H
#define H4HC_FRAMES_H

#include "tasks.h"

/* One entry of the list. */
typedef struct Entry { i64 task, moment, position, stage, queue, tiles, work; } Entry;

/* One window (with its last `slots` the only ones whose ends are kept), its entries by task, when the frame that it begins
 * begins and ends, and whether there is no other frame. */
typedef struct {
    const Sim *s;
    const Entry **entry;
    i64 window, slots, interval, begin, end;
    int alone;
} Steady;

/* Where the tiles of task c of the frame `lag` windows ago ended; `slots` windows are kept. */
static inline const i64 *past_ends(const Problem *p, i64 c, i64 window, i64 lag, i64 slots) {
    i64 slot = (window - lag) % slots;
    if (c < p->n) return p->op_tiles_end + (slot * p->n + c) * MAX_TILES;
    return p->xf_tiles_end + (slot * p->nt * p->nm + c - p->n) * MAX_TILES;
}

/* frames.c */
void offsets_of(const Sim *s, i64 *offset);
i64 list_entries(const Sim *s, const i64 *offset, i64 period, Entry *list);
i64 growth(const Sim *s, const Entry *list, i64 count, i64 flying, const i64 *stage, i64 *free);
int measure_overflow(const Entry *list, i64 count, Steady *last, Result *out);

/* room.c */
double overflow(const Steady *w);

#endif
