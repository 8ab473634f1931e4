#include "align_cuda_body.cuh"

template struct skdejavid::CudaBackend<float, float>;
template void skdejavid::cuda_adam<float>(const skdejavid::CudaAdamStep<float>&, skdejavid::Queue);
