/* What a schedule needs of the memories beyond what they hold; see room.py. */
#include <stdlib.h>

#include "frames.h"

/* From `moment` of the interval on, `change` bytes more are alive. */
typedef struct { i64 moment, change; } Event;

static int by_event(const void *a, const void *b) {
    const Event *x = a, *y = b;
    if (x->moment != y->moment) return x->moment < y->moment ? -1 : 1;
    return (x->change > y->change) - (x->change < y->change);
}

/* Where the tiles of task c ended in the window looked at, and when it started. */
static i64 end_of(const Steady *w, i64 c) { return past_ends(w->s->p, c, w->window, 0, w->slots)[w->entry[c]->tiles - 1]; }

static i64 start_of(const Steady *w, i64 c) {
    const Entry *entry = w->entry[c];
    return past_ends(w->s->p, c, w->window, 0, w->slots)[0] - entry->work / entry->tiles;
}

/* When task c is done with the frame that task `from` works on in the window looked at. */
static i64 done_with(const Steady *w, i64 c, i64 from) {
    i64 stage = from < 0 ? 0 : w->entry[from]->stage;
    return end_of(w, c) + (w->entry[c]->stage - stage) * w->interval;
}

/* The last moment at which tensor t is read in memory m, from the window of task `from` on; `end` if nobody reads. */
static i64 last_use(const Steady *w, i64 t, i64 m, i64 from, i64 end) {
    const Problem *p = w->s->p;
    i64 home = source_memory(w->s, t);
    for (i64 i = p->cons_ptr[t]; i < p->cons_ptr[t + 1]; i++)
        if (memory_of(w->s, p->cons_op[i]) == m) {
            i64 done = done_with(w, p->cons_op[i], from);
            if (done > end) end = done;
        }
    for (i64 to = 0; m == home && to < p->nm; to++) {
        i64 x = p->n + t * p->nm + to;
        if (!w->entry[x]) continue;
        i64 done = done_with(w, x, from);
        if (done > end) end = done;
    }
    if (p->sink[t] && m == p->io_memory) {
        i64 stage = from < 0 ? 0 : w->entry[from]->stage, done = w->end - stage * w->interval + (w->alone ? 0 : w->interval);
        if (done > end) end = done;
    }
    return end;
}

/* The buffer of tensor t in memory m, written by `task` (-1: it is given): bytes that never go, or two events. */
static i64 add_buffer(const Steady *w, i64 t, i64 m, i64 task, Event *events, i64 *count, i64 *level) {
    const Problem *p = w->s->p;
    i64 size = p->held[t * p->nm + m], born = task < 0 ? w->begin : start_of(w, task);
    if (!size) return 0;
    i64 died = last_use(w, t, m, task, task < 0 ? born : end_of(w, task));
    i64 heir = task >= 0 && task < p->n ? p->heir[t] : -1; /* what it may be written over */
    if (heir >= 0 && p->held[heir * p->nm + m] >= size && p->producer[heir] >= 0) {
        i64 end = end_of(w, task), from = source_memory(w->s, heir) == m ? p->producer[heir] : p->n + heir * p->nm + m;
        i64 apart = (w->entry[task]->stage - w->entry[from]->stage) * w->interval;
        if (last_use(w, heir, m, from, 0) <= end + apart) born = end; /* written over its input */
    }
    i64 length = died > born ? died - born : 1, given = task < 0 && !w->alone;
    if (given || length >= w->interval) return size * (ceil_div(length, w->interval) + given);
    i64 start = born % w->interval, end = start + length;
    if (end > w->interval) { *level += size; end -= w->interval; }
    events[(*count)++] = (Event){start, size};
    events[(*count)++] = (Event){end, -size};
    return 0;
}

/* The price of the bytes that no memory has room for, at the moments of the interval when they need most; -1: no memory. */
double overflow(const Steady *w) {
    const Problem *p = w->s->p;
    Event *events = malloc(sizeof(Event) * (size_t)(2 * p->nt + 1));
    double price = 0.0;
    if (!events) return -1.0;
    for (i64 m = 0; m < p->nm; m++) {
        i64 count = 0, level = 0, whole = 0;
        if (p->mem_limit[m] < 0) continue;
        for (i64 t = 0; t < p->nt; t++) {
            i64 x = p->n + t * p->nm + m, home = source_memory(w->s, t);
            if (home == m) whole += add_buffer(w, t, m, p->producer[t], events, &count, &level);
            else if (w->entry[x]) whole += add_buffer(w, t, m, x, events, &count, &level);
        }
        qsort(events, (size_t)count, sizeof(Event), by_event);
        i64 most = level;
        for (i64 i = 0; i < count; i++) {
            level += events[i].change;
            if (level > most) most = level;
        }
        if (most + whole > p->mem_limit[m]) price += (double)(most + whole - p->mem_limit[m]) * p->mem_price[m];
    }
    free(events);
    return price;
}
