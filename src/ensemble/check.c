/* check.c: the verdict on every sample, in parallel. */
#include "tbg/ensemble.h"
#include "tbg/status.h"

#include <math.h>

int tbg_ensemble_check(tbg_ensemble *e, int mirror) {
    tbg_checker *checker;
    TBG_TRY(tbg_checker_create(e->molecule, &checker));
    tbg_checker_set_mirror(checker, mirror);
    long size = (long)e->n_atoms * 3;
#pragma omp parallel for schedule(dynamic, 16)
    for (long i = 0; i < e->n; i++) {
        double *x = e->positions + i * size;
        int finite = 1;
        for (long k = 0; k < size; k++)
            finite &= isfinite(x[k]) != 0;
        e->verdict[i] = (unsigned char)(finite ? tbg_check(checker, x) : TBG_NOT_FINITE);
    }
    tbg_checker_free(checker);
    return TBG_OK;
}
