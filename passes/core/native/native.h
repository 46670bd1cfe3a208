/* Shared by the compiled inner loops. The Python twins (reference.py, cutting.py, packing.py ...) document every function. */
#ifndef H4HC_NATIVE_H
#define H4HC_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MAX_TILES 16
#define MAX_FRAMES 64
#define LAPS 4 /* of the closed loop, until a frame is measured */
#define SETTLING 3 /* windows before the interval is measured, beyond the frames in flight */
#define MEASURED 4 /* windows */

typedef int64_t i64;

/* An evaluation that others set out from (see resume.c): its order, and by task its position and since when it waited, its
 * channel and when its tiles ended; the work of each device. What comes from position `lost` on no longer holds in the scratch
 * memory of the problem. `moves`: its transfers in order; `marks`: every few positions, what has been done up to there. */
typedef struct {
    i64 count, lost, moved, *order, *position, *woken, *rows, *channel, *load, *moves, *marks;
} Base;

typedef struct {
    PyObject_HEAD
    i64 n, nt, nd, nm, nl, io_memory, handoff;
    /* operators */
    i64 *rows, *rank, *alike, *mode_ptr, *mode_device, *mode_work, *mode_energy, *mode_resident;
    i64 *in_ptr, *in_tensor, *in_rows, *in_window, *in_stride, *in_pad;
    /* tensors */
    i64 *producer, *cons_ptr, *cons_op, *sink, *out_ptr, *out_tensor;
    /* devices, links */
    i64 *dev_memory, *dev_overhead, *dev_capacity, *link_of, *link_channels, *link_overhead;
    i64 *xfer_work, *xfer_energy;
    double *dev_static;
    i64 period; /* for which static power is drawn, 0: for the latency */
    /* what memories hold (optional): bytes by tensor and memory, what a tensor may be written over, limits (-1: none), prices */
    i64 *held, *heir, *mem_limit;
    double *mem_price;
    /* scratch */
    i64 *op_wait, *op_start, *op_end, *op_tiles_end, *xf_state, *xf_tiles_end, *xf_tiles, *xf_start,
        *xf_end, *xf_channel, *dev_free, *chan_free, *key, *child, *sibling, *late, *ready, *order, *woken, *load, *busy, *chan_busy;
    /* frames in flight: scratch by slot; `left` counts a frame's tasks */
    i64 slots, *frame, *released, *last, *left;
    i64 *resident, *best_mode, *best_tiles;
    const i64 *focus; /* operators at which moves begin, `focused` of them; at any if there are none */
    i64 focused;
    /* tiles that tiles of an input wait for, by input, and for which tile counts (see needs_of) */
    unsigned char *need;
    unsigned short *need_key;
    Base base;
} Problem;

typedef struct {
    i64 latency, energy, busiest, interval;
    double overflow; /* price of bytes without room, in ticks */
    uint64_t used;
    i64 order_len;
} Result;

enum { XF_NONE = 0, XF_READY = 1, XF_DONE = 2 };
#define MAX_CHANNELS 16
#define MAX_DEVICES 64

/* A placement being evaluated: per operator its mode (an index into its modes) and tile count; `order` may be NULL. */
typedef struct {
    Problem *p;
    const i64 *mode, *tiles, *order;
    i64 order_len;
    i64 slot, operators, transfers; /* the frame at hand: its slot, and where its operators and transfers begin */
    i64 count;                      /* tasks that are scheduled */
} Sim;

/* problem.c */
extern PyTypeObject ProblemType;
i64 *read_ints(PyObject *seq, i64 expected, const char *what);
i64 *zeros(i64 n);
int bad_pointers(const i64 *pointers, i64 count, i64 end);
static inline i64 most(i64 a, i64 b) { return a > b ? a : b; }
PyObject *ints_to_list(const i64 *values, i64 n);
int more_slots(Problem *p, i64 slots);
int read_modes(Problem *p, PyObject *modes, i64 **mode);
int read_choice(Problem *p, PyObject *modes, PyObject *tiles, i64 **mode, i64 **tile);

/* simulate.c */
void simulate(Problem *p, const i64 *mode, const i64 *tiles, Result *out);
const char *simulate_in_order(Problem *p, const i64 *mode, const i64 *tiles, const i64 *order, i64 order_len,
                              Result *out);
void begin_simulation(Sim *s, Result *out);
void release(Sim *s, i64 slot, i64 frame, i64 moment);
void candidate(Sim *s, i64 c);
int run_candidates(Sim *s, i64 limit, Result *out);
i64 simulate_frames(Problem *p, const i64 *mode, const i64 *tiles, i64 window, i64 *period, Result *out);

/* resume.c */
int room_for_base(Problem *p);
void keep_base(Problem *p, const i64 *mode, const i64 *tiles, i64 from, i64 count);
int resume(Problem *p, const i64 *mode, const i64 *tiles, const i64 *old_mode, const i64 *old_tiles, i64 limit,
           i64 *from, Result *out);

/* trace.c */
int simulate_asked(Problem *p, const i64 *mode, const i64 *tiles, PyObject *order, Result *out);
PyObject *Problem_trace(Problem *p, PyObject *args);

/* contents.c */
PyObject *Problem_contents(Problem *p, PyObject *args);

/* frames.c */
int read_frames(Problem *p, i64 frames);
PyObject *Problem_steady(Problem *p, PyObject *args);
int measure_interval(Problem *p, const i64 *mode, const i64 *tiles, i64 frames, Result *out);
int overflow_alone(Problem *p, const i64 *mode, const i64 *tiles, Result *out);

/* climb.c */
PyObject *Problem_climb(Problem *p, PyObject *args);
PyObject *Problem_score(Problem *p, PyObject *args);
PyObject *Problem_prefer(Problem *p, PyObject *args);

/* start.c */
PyObject *Problem_best(Problem *p, PyObject *args);
PyObject *Problem_offload(Problem *p, PyObject *args);

/* balance.c */
PyObject *Problem_balance(Problem *p, PyObject *args);
PyObject *Problem_tune(Problem *p, PyObject *args);

/* weave.c */
PyObject *Problem_weave(Problem *p, PyObject *args);

/* cut.c */
PyObject *Problem_cut(Problem *p, PyObject *args);
PyObject *Problem_cut_within(Problem *p, PyObject *args);

/* capacity.c */
PyObject *Problem_knapsack(Problem *p, PyObject *args);

/* fetch.c */
extern PyTypeObject LineType;

/* loop.c */
extern PyTypeObject LoopType;

/* memory.c */
PyObject *pack(PyObject *self, PyObject *args);
PyObject *pack_within(PyObject *self, PyObject *args);
PyObject *peak_bytes(PyObject *self, PyObject *args);
typedef struct { i64 start, end, id; } Keyed; /* in order of these */
int compare_keyed(const void *a, const void *b);
i64 most_alive(i64 n, const i64 *starts, const i64 *ends, const i64 *sizes, i64 *at);
int fits_within(i64 n, const i64 *starts, const i64 *ends, const i64 *sizes, i64 *offsets, i64 capacity, i64 steps);

/* spill.c */
PyObject *Problem_overflowing(Problem *p, PyObject *args);

/* reuse.c */
PyObject *reuse_waits(PyObject *self, PyObject *args);

#endif
