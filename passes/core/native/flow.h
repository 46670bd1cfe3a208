/* Minimum cuts of networks. */
#ifndef H4HC_FLOW_H
#define H4HC_FLOW_H

#include "native.h"

#define INFINITE_CAPACITY ((i64)1 << 52)

/* Arcs from `tails` to `heads`. Node 0 is the source, node 1 the sink. */
typedef struct { i64 nodes, arcs, room; i64 *tails, *heads, *caps; int failed; } Network;

/* What is left of the arcs between the other nodes, by tail and in both directions, each with the place of the opposite one. By
 * node, `terminal` is what the source may send there less what it may send to the sink, and `moved` what flows in less what
 * flows out; their sum goes on, or is missing. `terminal` may be changed and the rest sent from what flows already. */
typedef struct { i64 *first, *to, *left, *mate, *terminal, *moved, *level, *next, *queue, *path; } Flow;

void add_arc(Network *g, i64 tail, i64 head, i64 capacity);
int begin_flow(Flow *f, const Network *g);
void send_all(Flow *f, i64 nodes);
void end_flow(Flow *f);

#endif
