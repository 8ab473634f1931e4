#include "align_cuda_body.cuh"

template struct skdejavid::DeviceBackend<float, float>;
template void skdejavid::device_adam<float>(const skdejavid::DeviceAdamStep<float>&,
                                            skdejavid::Queue);
