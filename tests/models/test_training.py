from dataclasses import replace

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.models import training, zoo
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.records import best_epoch

BASE = training.TrainingConfig(epochs=3, learning_rate=3e-3, batch=32, seed=1)


def split(pictures):
    images, labels = pictures
    return (images[:384], labels[:384]), (images[384:], labels[384:])


def train(pictures, folder, epochs=3, net=None, key="k", teacher=None, **options):
    net = net or fresh()
    config = replace(BASE, epochs=epochs, **options)
    history = training.fit(
        net, *split(pictures), SIGNED, config, folder=folder, key=key, teacher=teacher
    )
    return net, history


def fresh():
    keras.utils.set_random_seed(3)
    return zoo.resnet8((8, 8, 3), 4, alpha=0.25)


def test_it_learns_and_ends_at_its_best_epoch(pictures, tmp_path):
    net, history = train(pictures, tmp_path, epochs=6)
    _, (images, labels) = split(pictures)
    score = np.mean(training.predict_keras(net, images, SIGNED).argmax(-1) == labels)
    assert score == pytest.approx(max(epoch["val_accuracy"] for epoch in history)) and score > 0.6


def test_interrupted_training_goes_on_where_it_was(pictures, tmp_path, monkeypatch):
    whole, reference = train(pictures, tmp_path / "whole")
    count, real = iter(range(100)), training.run_keras

    def breaks(*args, **options):
        if next(count) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(training, "run_keras", breaks)
    with pytest.raises(KeyboardInterrupt):
        train(pictures, tmp_path / "parts")
    monkeypatch.setattr(training, "run_keras", real)
    seen = []
    monkeypatch.setattr(
        training, "progress", lambda items, label, total=None: seen.append(label) or items
    )
    resumed, history = train(pictures, tmp_path / "parts")
    assert len(seen) == 2 and "epoch 2 of 3" in seen[0], "the finished epoch is not trained again"
    for one, other in zip(reference[1:], history[1:], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3), (
            "the optimizer's state came back too"
        )
    images = split(pictures)[1][0]
    assert np.allclose(
        training.predict_keras(whole, images, SIGNED),
        training.predict_keras(resumed, images, SIGNED),
        atol=1e-2,
    )


def test_finished_training_is_loaded_not_repeated(pictures, tmp_path, monkeypatch):
    net, history = train(pictures, tmp_path)
    monkeypatch.setattr(training, "batches", lambda *args: pytest.fail("it trained again"))
    again, same = train(pictures, tmp_path)
    images = split(pictures)[1][0]
    assert same == history and np.array_equal(
        training.predict_keras(net, images, SIGNED), training.predict_keras(again, images, SIGNED)
    )


def test_another_key_trains_anew(pictures, tmp_path):
    train(pictures, tmp_path, epochs=1)
    assert [epoch["epoch"] for epoch in train(pictures, tmp_path, epochs=2, key="other")[1]] == [
        0,
        1,
        2,
    ]


def test_a_model_that_training_spoils_stays_as_it_came(pictures, tmp_path):
    net, _ = train(pictures, tmp_path / "good", epochs=6)
    images = split(pictures)[1][0]
    before = training.predict_keras(net, images, SIGNED)
    teacher = keras.models.clone_model(net)
    teacher.set_weights(net.get_weights())
    _, history = train(pictures, tmp_path / "spoilt", epochs=1, net=net, teacher=teacher)
    assert history[0]["val_agreement"] == 1 and "loss" not in history[0]
    assert np.array_equal(training.predict_keras(net, images, SIGNED), before)


def test_cutmix_keeps_the_share_of_pixels_that_it_says():
    keras.utils.set_random_seed(0)
    images = np.broadcast_to(np.arange(2, dtype=np.float32)[:, None, None, None], (2, 12, 20, 3))
    shares = []
    for _ in range(40):
        mixed, kept = training.cut_and_mix(tf.constant(images), 1.0)
        assert float(kept) == pytest.approx(1 - mixed[0].numpy().mean(), abs=1e-6), (
            "image 1 shows in image 0 where it was cut"
        )
        rows = mixed[0].numpy()[..., 0]
        assert np.array_equal(rows, np.outer(rows.any(axis=1), rows.any(axis=0))), "one box"
        shares.append(float(kept))
    assert min(shares) < 0.5 < max(shares) < 1.001
    untouched, kept = training.cut_and_mix(tf.constant(images), 0.0)
    assert np.array_equal(untouched, images) and float(kept) == 1


def test_cutmix_and_smoothing_still_learn(pictures, tmp_path):
    _, history = train(pictures, tmp_path, epochs=6, cutmix=0.5, label_smoothing=0.1)
    assert history[-1]["val_accuracy"] > 0.5


def test_early_stopping(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(
        training,
        "run_keras",
        lambda model, images, preprocess: np.eye(4)[np.zeros(len(images), int)],
    )
    assert len(train(pictures, tmp_path, epochs=9, patience=2)[1]) == 3


def test_a_loss_that_is_no_number_stops(pictures, tmp_path):
    net = fresh()
    net.get_layer("logits").set_weights([np.full((16, 4), np.nan), np.zeros(4)])
    with pytest.raises(EdgeqError, match="lower learning_rate"):
        train(pictures, tmp_path, net=net)


def test_distillation_learns_from_the_teacher_not_the_labels(pictures, tmp_path):
    teacher, _ = train(pictures, tmp_path / "teacher", epochs=6)
    (images, labels), validation = split(pictures)
    student = fresh()
    history = training.fit(
        student,
        (images, np.zeros_like(labels)),
        validation,
        SIGNED,
        replace(BASE, epochs=6),
        folder=tmp_path / "student",
        key="s",
        teacher=teacher,
    )
    agree = training.predict_keras(student, validation[0], SIGNED).argmax(
        -1
    ) == training.predict_keras(teacher, validation[0], SIGNED).argmax(-1)
    assert agree.mean() > 0.6
    assert agree.mean() == max(epoch["val_agreement"] for epoch in history), (
        "the epoch that agrees most is kept"
    )


def test_logits_that_differ_by_a_constant_are_the_same_answer():
    logits = tf.constant([[1.0, 2.0, 4.0]])
    assert float(training._logit_distance(logits, logits + 5)) == 0
    assert float(training._logit_distance(logits, logits * 2)) > 0


def test_only_the_head_moves_when_the_body_is_frozen(pictures, tmp_path):
    net = fresh()
    training.choose_trainable(net, head_only=True)
    before = net.get_layer("stack1_a").get_weights()[0], net.get_layer("logits").get_weights()[0]
    train(pictures, tmp_path, epochs=1, net=net)
    assert np.array_equal(before[0], net.get_layer("stack1_a").get_weights()[0])
    assert not np.array_equal(before[1], net.get_layer("logits").get_weights()[0])
    training.choose_trainable(net, head_only=False)
    assert all(layer.trainable for layer in net.layers)


def test_frozen_norms_keep_their_statistics_while_the_rest_learns(pictures, tmp_path):
    net = fresh()
    training.choose_trainable(net, head_only=False, norms=False)
    norms, kernel = net.get_layer("stem_bn").get_weights(), net.get_layer("stem").get_weights()[0]
    train(pictures, tmp_path, epochs=1, net=net)
    assert all(
        np.array_equal(*pair)
        for pair in zip(norms, net.get_layer("stem_bn").get_weights(), strict=True)
    )
    assert not np.array_equal(kernel, net.get_layer("stem").get_weights()[0])


def test_ties_between_epochs_go_to_the_lower_loss():
    records = [
        {"val_accuracy": 0.5, "val_loss": 1.0},
        {"val_accuracy": 0.9, "val_loss": 0.4},
        {"val_accuracy": 0.9, "val_loss": 0.3},
        {"val_accuracy": 0.9, "val_loss": 0.3},
    ]
    assert best_epoch(records) == 2
    taught = [
        dict(record, val_agreement=share)
        for record, share in zip(records, (0.7, 0.8, 0.6, 0.8), strict=True)
    ]
    assert best_epoch(taught) == 1, "the teacher judges, and of equals the first is kept"
    assert best_epoch([]) is None


def test_augmentation_changes_images_and_keeps_their_shape():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    out = training.augmentation(True, 0.1, 0.1)(images, training=True)
    assert out.shape == images.shape and not np.allclose(out, images)
    assert training.augmentation(False, 0, 0) is None
