#include "align_cuda_body.cuh"

template struct skdejavid::CudaBackend<float, skdejavid::Half>;
