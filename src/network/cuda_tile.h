#ifndef TBG_NETWORK_CUDA_TILE_H
#define TBG_NETWORK_CUDA_TILE_H
#include "network/cuda_room.h"
TBG_BLOCK_F size_t tile_shared_size(int H) { return (size_t)H; }
TBG_BLOCK_F void tile_edges(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N, int l, char *shared) {(void)shared;plain_edges(J,R,b,N,l,0);}
TBG_BLOCK_F void tile_edges_reverse(const tbg_cuda_job *J, const tbg_cuda_room *R, int b, int N, int l, float *g, char *shared) {(void)shared; plain_edges_reverse(J,R,b,N,l,g);}
#endif
