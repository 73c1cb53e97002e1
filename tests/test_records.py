"""Which epoch of a training is kept."""

from edgeq_lib.records import best_epoch


def test_ties_between_epochs_go_to_the_lower_loss():
    records = [
        {"val_accuracy": accuracy, "val_loss": loss}
        for accuracy, loss in ((0.5, 1.0), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3))
    ]
    assert best_epoch(records) == 2


def test_the_teacher_judges_and_of_equals_the_first_is_kept():
    agreements = (0.7, 0.8, 0.6, 0.8)
    records = [
        {"val_accuracy": 0.9, "val_loss": 1.0 - share, "val_agreement": share}
        for share in agreements
    ]
    assert best_epoch(records) == 1
    assert best_epoch([]) is None
