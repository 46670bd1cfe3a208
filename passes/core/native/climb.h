/* Scores and moves, which the local searches share. */
#ifndef H4HC_CLIMB_H
#define H4HC_CLIMB_H

#include "native.h"

typedef struct { double late, primary, secondary; } Score;

enum { INTERVAL = 3, LOAD = 4 }; /* objectives of several frames in flight */

/* A search that keeps the order of tasks: when the tasks of a frame start at the placement at hand, at the one that was just
 * rated, and at the best one (-1: no such task); ticks between frames there; scratch; and the operators that are moved in time,
 * before `last`. */
typedef struct {
    i64 *offset, *next, *best, *stage, period, next_period, best_period;
    struct Entry *list;
    i64 first, last, ticks;
} Tuning;

/* tune.c */
void rate_tuned(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, double limit, Tuning *tuning, Result *out);
struct Entry *new_list(i64 tasks);
void begin_tuning(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, Tuning *tuning);
int move_tuned(Problem *p, i64 *mode, i64 *tiles, uint64_t mask, Tuning *tuning, uint64_t *state);
void keep_tuned(const Problem *p, Tuning *tuning, int best);

/* The latency above which a placement scores worse than `current`. */
static inline i64 latest(const Score *current, int objective, i64 budget) {
    if (objective == 0) return (i64)current->primary;
    return budget > 0 ? budget + (i64)current->late : INT64_MAX;
}

/* xorshift64*, upper 32 bits. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (x * 0x2545F4914F6CDD1DULL) >> 32;
}

Score score_of(const Problem *p, const Result *r, int objective, i64 budget, i64 frames);
void evaluate(Problem *p, const i64 *mode, const i64 *tiles, int objective, i64 frames, Result *r);
int counts_room(const Problem *p, int objective, i64 frames); /* whether bytes without room count as ticks of the latency */
int better_or_equal(const Score *a, const Score *b);
int mutate(Problem *p, i64 *mode, i64 *tiles, uint64_t mask, uint64_t *state);
void fill_resident(Problem *p, const i64 *mode);

#endif
