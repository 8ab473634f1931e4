from skdejavid.files.renamed import with_new_names


def test_old_names_and_values_become_new_ones_in_their_order():
    old = {"n_epochs": 3, "normalization": "layer", "normalization_": "global", "device": "layer"}
    new = {"n_epochs": 3, "logit_scaling": "sample", "logit_scaling_": "global", "device": "layer"}
    assert list(with_new_names(old).items()) == list(new.items())


def test_what_is_no_string_is_left_to_the_checks():
    assert with_new_names({"normalize": ["layer"]}) == {"logit_scaling": ["layer"]}
