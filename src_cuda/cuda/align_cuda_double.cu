#include "align_cuda_body.cuh"

template struct skdejavid::CudaBackend<double, double>;
template void skdejavid::cuda_adam<double>(const skdejavid::CudaAdamStep<double>&,
                                           skdejavid::Queue);
