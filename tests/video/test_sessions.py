import pytest
import torch

from skdejavid.video.sessions import inference


@pytest.mark.fault(73)
def test_inference_leaves_every_submodule_as_it_was():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    module[1].eval()
    modes = [part.training for part in module.modules()]
    with inference(module):
        assert not any(part.training for part in module.modules())
        assert torch.is_inference_mode_enabled()
    assert [part.training for part in module.modules()] == modes == [True, True, False, False]
    with pytest.raises(RuntimeError, match="on purpose"), inference(module):
        raise RuntimeError("on purpose")
    assert [part.training for part in module.modules()] == modes
