// The CPU backend's choice of instruction set.
#include "../align.hpp"

namespace skdejavid {

namespace baseline {
template <typename Real>
const Backend<Real>& backend();
}

template <typename Real>
const Backend<Real>& cpu_backend() {
    return baseline::backend<Real>();
}

template const Backend<float>& cpu_backend<float>();
template const Backend<double>& cpu_backend<double>();

}  // namespace skdejavid
