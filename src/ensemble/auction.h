/* auction.h: optimal assignment between two sets of points by auction with epsilon scaling; for floor 9 only.
 */
#ifndef TBG_ENSEMBLE_AUCTION_H
#define TBG_ENSEMBLE_AUCTION_H

/* Costs of row i to all n columns: fills row[0..n-1], finite, >= 0. */
typedef void (*tbg_cost_row)(const void *context, int i, double *row);

/* *total: cost of an assignment that is at most n * epsilon above the least, epsilon = 1e-10 times the
 * largest cost (in practice the least to rounding, since different assignments of real points differ by
 * more). */
/* price: [n] or NULL: the columns' prices: min over j of cost(i, j) + price[j] is reached by row i's column
 * (up to that epsilon), so that -price and these minima are the dual potentials. */
int tbg_auction(int n, tbg_cost_row cost, const void *context, double *total, double *price);
#endif
