/* auction.c: the auction algorithm (Bertsekas 1988). Rows bid for columns; a bid raises the column's price by
 * the lead over the second best choice plus epsilon; epsilon shrinks phase by phase while prices stay.
 *
 * Prices only rise, so the K best columns of a row, found once by a full scan, stay the only candidates until
 * even the second best of them costs more than the bound that all other columns met at that scan. A bid then
 * costs K, not n. */
#include "ensemble/auction.h"
#include "base/memory.h"
#include "base/progress.h"
#include "tbg/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 24 };

typedef struct {
    double bound; /* every column outside the list costs at least this, price included */
    int n, column[K];
    double cost[K];
} candidates;

typedef struct {
    int n;
    tbg_cost_row cost;
    const void *context;
    double *price, *row; /* [n] */
    candidates *list;    /* [n] */
    int *owner, *held, *free;
} auction;

/* Full scan of row i: its K cheapest columns. A heap with the most expensive on top. */
static void scan(auction *a, int i) {
    candidates *l = &a->list[i];
    double value[K];
    a->cost(a->context, i, a->row);
    l->n = 0;
    l->bound = INFINITY;
    for (int j = 0; j < a->n; j++) {
        double v = a->row[j] + a->price[j];
        int at;
        if (l->n < K) {
            for (at = l->n++; at && value[(at - 1) / 2] < v; at = (at - 1) / 2) {
                value[at] = value[(at - 1) / 2];
                l->column[at] = l->column[(at - 1) / 2];
            }
        } else if (v < value[0]) {
            for (at = 0;;) {
                int child = 2 * at + 1;
                if (child + 1 < K && value[child + 1] > value[child])
                    child++;
                if (child >= K || value[child] <= v)
                    break;
                value[at] = value[child];
                l->column[at] = l->column[child];
                at = child;
            }
        } else
            continue;
        value[at] = v;
        l->column[at] = j;
    }
    if (a->n > K)
        l->bound = value[0];
    for (int k = 0; k < l->n; k++)
        l->cost[k] = a->row[l->column[k]];
}

/* Best column of row i and how far the second best is. */
static int choose(auction *a, int i, double *lead) {
    candidates *l = &a->list[i];
    for (int fresh = 0;; fresh = 1) {
        double best = INFINITY, second = INFINITY;
        int at = -1;
        for (int k = 0; k < l->n; k++) {
            double v = l->cost[k] + a->price[l->column[k]];
            if (v < best) {
                second = best;
                best = v;
                at = l->column[k];
            } else if (v < second)
                second = v;
        }
        if (at >= 0 && (second <= l->bound || fresh)) {
            *lead = isfinite(second) ? second - best : 0;
            return at;
        }
        scan(a, i);
    }
}

static int phase(auction *a, double epsilon) {
    int n_free = a->n;
    for (int i = 0; i < a->n; i++) {
        a->owner[i] = a->held[i] = -1;
        a->free[i] = a->n - 1 - i;
    }
    for (long bids = 0; n_free; bids++) {
        double lead;
        int i = a->free[--n_free], j = choose(a, i, &lead), loser = a->owner[j];
        a->price[j] += lead + epsilon;
        a->owner[j] = i;
        a->held[i] = j;
        if (loser >= 0) {
            a->held[loser] = -1;
            a->free[n_free++] = loser;
        }
        if (!(bids & 0xffff) && tbg_interrupted())
            return tbg_fail(TBG_FAILED, "interrupted");
    }
    return TBG_OK;
}

int tbg_auction(int n, tbg_cost_row cost, const void *context, double *total, double *price) {
    auction a = {.n = n, .cost = cost, .context = context};
    *total = 0;
    a.price = tbg_alloc(2 * (size_t)n, sizeof *a.price);
    a.list = TBG_NEW(candidates, n);
    a.owner = tbg_alloc(3 * (size_t)n, sizeof *a.owner);
    int status = a.price && a.list && a.owner ? TBG_OK : TBG_FAILED;
    if (status == TBG_OK) {
        a.row = a.price + n;
        a.held = a.owner + n;
        a.free = a.owner + 2 * (size_t)n;
        double largest = 0;
        for (int i = 0; i < n; i++) {
            cost(context, i, a.row);
            for (int j = 0; j < n; j++)
                if (a.row[j] > largest)
                    largest = a.row[j];
        }
        /* List of no candidates: the first choice of each row scans. */
        double last = 1e-10 * largest;
        for (double epsilon = largest / 8; status == TBG_OK && largest > 0; epsilon /= 6) {
            status = phase(&a, epsilon > last ? epsilon : last);
            if (epsilon <= last)
                break;
        }
        for (int i = 0; status == TBG_OK && largest > 0 && i < n; i++) {
            cost(context, i, a.row);
            *total += a.row[a.held[i]];
        }
    }
    if (status == TBG_OK && price)
        memcpy(price, a.price, (size_t)n * sizeof *price);
    free(a.price);
    free(a.list);
    free(a.owner);
    return status;
}
