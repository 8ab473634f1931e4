#include "align_cuda_body.cuh"

template struct skdejavid::DeviceBackend<double, double>;
template void skdejavid::device_adam<double>(const skdejavid::DeviceAdamStep<double>&,
                                             skdejavid::Queue);
