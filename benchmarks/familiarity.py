"""How well the distance from the training photos tells what a classifier has never seen, against what else could.

For each collection and seed some classes are hidden; two classifiers learn the others from 300 labelled photos: a head
on a frozen backbone that was pre-trained on photos of all classes but the test split, and a network trained from
scratch. Then each is asked about photos of known classes that it has not seen, and about seven sets of others: photos
of another collection, hidden classes, quarter turns (of digits alone), negatives, noise, photos cut into 16 pieces
and shuffled, and blurred ones.

AUROC, the chance that an unknown photo ranks above a known one, of four ways to rank them:

    distance      what models carry with them (models/familiarity.py)
    probability   1 less the highest probability: needs nothing but the classifier
    neighbour     cosine distance to the nearest training photo's embedding, of which the model would hold every one
    mahalanobis   Mahalanobis distance to the nearest class, of embeddings as they are

Besides: how many known and unknown photos are flagged as unfamiliar, with the default that 95 % of photos like the
training photos shall not be. Ten minutes on two idle cores where backbones have been pre-trained, which takes an hour.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common.photo_sets import MEAN, STD, Collection, choose, describe, digits, elpv, pack, pretrained
from PIL import Image, ImageFilter
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from sparsight.models.backbones import create_backbone
from sparsight.models.classifier import Classifier
from sparsight.models.folder import Preprocessing
from sparsight.models.precision import best_device
from sparsight.training.classifier import ClassifierOptions, ClassifierTrainer
from sparsight.training.familiarity import learn_familiarity
from sparsight.training.labelled import LabelledSplits

LABELS = 300
ASKED = 500
WAYS = ("distance", "probability", "neighbour", "mahalanobis")


def hidden(collection: Collection, seed: int) -> np.ndarray:
    """Labels that nobody is shown: two digits, or all cells of one type."""
    if collection.name == "digits":
        return np.array([str(2 * seed % 10), str((2 * seed + 1) % 10)])
    kind = ("mono", "poly")[seed % 2]
    return np.array([label for label in np.unique(collection.labels) if label.startswith(kind)])


def others(collection: Collection, known: np.ndarray, unseen: np.ndarray, foreign: np.ndarray) -> dict[str, np.ndarray]:
    """Photos that the classifier has nothing to do with, by kind; uint8 N x H x W x 3."""
    size, rng = known.shape[1], np.random.default_rng(0)
    scaled = [np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC)) for photo in foreign]
    blurred = [np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(size / 12))) for photo in known]
    found = {
        "foreign": np.stack(scaled),
        "hidden": unseen,
        "negative": 255 - known,
        "noise": rng.integers(0, 256, known.shape, np.uint8),
        "shuffled": shuffled(known, rng),
        "blurred": np.stack(blurred),
    }
    return found | ({"turned": np.rot90(known, 1, (1, 2)).copy()} if collection.name == "digits" else {})


def shuffled(photos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut each photo into 4 x 4 pieces and put them together in another order."""
    count, side = len(photos), photos.shape[1] // 4
    pieces = photos[:, : 4 * side, : 4 * side].reshape(count, 4, side, 4, side, 3).swapaxes(2, 3)
    pieces = pieces.reshape(count, 16, side, side, 3)
    mixed = np.stack([each[rng.permutation(16)] for each in pieces]).reshape(count, 4, 4, side, side, 3)
    return mixed.swapaxes(2, 3).reshape(count, 4 * side, 4 * side, 3)


def classifiers(collection: Collection, splits: LabelledSplits, seed: int, epochs: int) -> Iterator[tuple[str, Any]]:
    """The two classifiers, trained."""
    frozen = ClassifierOptions(balance="oversample", augmentation=collection.recipe.labelled, seed=seed)
    whole = replace(frozen, freeze_backbone=False, backbone_learning_rate_ratio=1.0, epochs=40, patience=15)
    for name, options in (("frozen", frozen), ("scratch", whole)):
        torch.manual_seed(seed)
        backbone = pretrained(collection, seed, epochs) if name == "frozen" else create_backbone(describe(collection))
        device = best_device()
        trainer = ClassifierTrainer(backbone, splits, options, device=device, precision=torch.float32)
        yield name, trainer.train().classifier.cpu()


@torch.inference_mode()
def embedded(classifier: Classifier, photos: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings and highest probabilities of photos."""
    from sparsight.data.augment import normalise

    parts = [classifier.backbone(normalise(part, MEAN, STD)) for part in torch.from_numpy(photos).split(100)]
    embeddings = torch.cat(parts)
    return embeddings, classifier.head(embeddings).softmax(dim=1).max(dim=1).values


def rankings(
    classifier: Classifier, splits: LabelledSplits, asked: dict[str, np.ndarray]
) -> tuple[dict[str, dict[str, np.ndarray]], float]:
    """By way and set of photos, how unknown each photo seems; and the limit of the first way."""
    size = splits.images.size[0]
    plain = Preprocessing(image_size=size, resize="squash", mean=MEAN, std=STD)
    familiarity = learn_familiarity(classifier.backbone, splits, plain)
    known, _ = embedded(classifier, splits.images.gather(splits.train))
    labels = splits.labels[splits.train].astype(str)
    means = torch.stack([known[torch.from_numpy(labels == label)].mean(dim=0) for label in np.unique(labels)])
    nearest = means[torch.from_numpy(np.unique(labels, return_inverse=True)[1])]
    inverse = np.linalg.inv(ledoit_wolf((known - nearest).numpy(), assume_centered=True)[0])
    found: dict[str, dict[str, np.ndarray]] = {way: {} for way in WAYS}
    for name, photos in asked.items():
        embeddings, highest = embedded(classifier, photos)
        cosine = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(known).T
        apart = [(embeddings - mean).numpy() for mean in means]
        found["distance"][name] = familiarity(embeddings).numpy()
        found["probability"][name] = 1 - highest.numpy()
        found["neighbour"][name] = 1 - cosine.max(dim=1).values.numpy()
        found["mahalanobis"][name] = np.min([((each @ inverse) * each).sum(axis=1) for each in apart], axis=0)
    return found, familiarity.limit()


def compare(collection: Collection, foreign: np.ndarray, seed: int, epochs: int) -> Iterator[dict[str, Any]]:
    """Yield for each classifier and set of photos the AUROC of each way, and the share that is flagged."""
    away = np.isin(collection.labels, hidden(collection, seed))
    shown = np.flatnonzero(~away)
    part = replace(
        collection,
        images=collection.images[shown],
        labels=collection.labels[shown],
        test=np.flatnonzero(np.isin(shown, collection.test)),
    )
    chosen = choose(part, LABELS, seed)
    known = part.images[part.test[:ASKED]]
    unseen = collection.images[np.intersect1d(np.flatnonzero(away), collection.test)][:ASKED]
    asked = {"known": known} | others(collection, known, unseen, foreign[:ASKED])
    with tempfile.TemporaryDirectory() as place:
        images = pack(Path(place) / "images", part, {"train": chosen[60:], "valid": chosen[:60], "test": part.test})
        splits = LabelledSplits.of(images)
        for name, classifier in classifiers(collection, splits, seed, epochs):
            ranks, limit = rankings(classifier, splits, asked)
            for kind in list(asked)[1:]:
                truth = [0] * len(known) + [1] * len(asked[kind])
                scores = {way: np.concatenate([found["known"], found[kind]]) for way, found in ranks.items()}
                yield {
                    "collection": collection.name,
                    "classifier": name,
                    "seed": seed,
                    "asked": kind,
                    "known flagged": float((ranks["distance"]["known"] > limit).mean()),
                    "flagged": float((ranks["distance"][kind] > limit).mean()),
                    **{way: float(roc_auc_score(truth, score)) for way, score in scores.items()},
                }


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, one seed, hardly pre-trained: within a minute")
    parser.add_argument("--collections", default="digits,elpv", help="which, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="which, separated by commas")
    parser.add_argument("--epochs", type=int, help="of pre-training, in place of the collection's own")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.collections, arguments.seeds, arguments.epochs = "digits", "0", 2
    photos = {"digits": digits(), "elpv": elpv()}
    results = []
    for name in arguments.collections.split(","):
        foreign = photos["elpv" if name == "digits" else "digits"].images
        for seed in map(int, arguments.seeds.split(",")):
            epochs = arguments.epochs or photos[name].recipe.epochs
            for result in compare(photos[name], foreign, seed, epochs):
                results.append(result)
                print("  {collection} {classifier}, seed {seed}, {asked}: {distance:.3f}".format(**result), flush=True)
    frame = pd.DataFrame(results)
    numbers = [*WAYS, "flagged", "known flagged"]
    with pd.option_context("display.width", 200, "display.float_format", "{:.3f}".format):
        print(frame.groupby(["collection", "classifier", "asked"], sort=False)[numbers].mean())
        print(frame.groupby(["collection", "classifier"], sort=False)[numbers].mean())
    means = frame[list(WAYS)].mean()
    lowest = frame.groupby(["collection", "classifier", "asked"])[list(WAYS)].mean().min()
    print(
        json.dumps(
            {
                "name": "familiarity",
                "peer": "highest probability",
                "ratio": round(means["distance"] / means["probability"], 3),
                "auroc": means.round(3).to_dict(),
                "lowest": lowest.round(3).to_dict(),
                "flagged": round(frame["flagged"].mean(), 3),
                "known_flagged": round(frame["known flagged"].mean(), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
