#include "align_cuda_body.cuh"

template struct skdejavid::DeviceBackend<float, skdejavid::Half>;
