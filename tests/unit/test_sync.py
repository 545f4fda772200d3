"""What a sync makes of an export: who said what in the end, what is reviewed, and what differs in documents."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from exports import EMAILS, Task, annotation, entries, task
from hypothesis import given
from hypothesis import strategies as st

from sparsight.data.sync.annotators import Annotators, read_emails
from sparsight.data.sync.documents import changed_fields
from sparsight.data.sync.export import parse_tasks, read_tasks
from sparsight.data.sync.notebook import Notebook
from sparsight.data.sync.opinions import standing
from sparsight.data.sync.reading import Reader, Reading
from sparsight.data.sync.report import SyncReport
from sparsight.data.taxonomy import Taxonomy, derive_taxonomy
from sparsight.errors import SparsightError

Document = dict[str, Any]
BY_EMAIL = Annotators(names="email", emails=EMAILS)


def synced(
    documents: Sequence[Document],
    tasks: Sequence[Task],
    *,
    annotators: Annotators = BY_EMAIL,
    agreeing: int = 0,
    project: str = "Pets",
    clear: bool = True,
    **reading: Any,
) -> tuple[list[Document], SyncReport]:
    """Sync documents that are held in a list; gives new ones, and counts those that changed."""
    report = SyncReport(project=project)
    after = []
    with Notebook() as notebook:
        how = Reading(containers=("pets",), annotators=annotators, **reading)
        Reader(notebook, how, report).read(parse_tasks(tasks, "the export"))
        for document in documents:
            said = notebook.opinions("pets", document["id"])
            fields = changed_fields(document, said, list(standing(said, agreeing)), project, clear=clear)
            report.changed += bool(fields)
            after.append({**document, **fields})
    return after, report


def one(tasks: Sequence[Task], document: Document | None = None, **how: Any) -> Document:
    return synced([document or {"id": "p"}], tasks, **how)[0][0]


def test_annotations_become_entries_with_their_source() -> None:
    done = one([task("p", annotation(1, "dog/poodle"), annotation(2, "cat"))], {"id": "p", "note": "mine"})
    assert done == {
        "id": "p",
        "note": "mine",
        "labels_with_taxonomy": [
            {
                "annotator_id": EMAILS[who],
                "taxonomy": [path],
                "source": "label-studio",
                "project": "Pets",
                "reviewed": False,
                "updated_at": "2026-01-01T00:00:00.000000+00:00",
            }
            for who, path in ((1, ["dog", "poodle"]), (2, ["cat"]))
        ],
        "total_annotations": 2,
        "has_imagerecognition_labels": True,
        "has_review": False,
    }


def test_several_results_of_one_annotation_are_united_and_the_deepest_paths_stay() -> None:
    said = annotation(1, "dog/poodle", "cat", "dog", "cat")
    said["result"] += [{"type": "relation"}, {"type": "choices", "value": {"choices": ["sharp"]}}]
    assert entries(one([task("p", said)])) == {EMAILS[1]: ["cat", "dog/poodle"]}


def test_of_several_annotations_of_one_annotator_the_latest_stands() -> None:
    tasks = [
        task("p", annotation(1, "cat", at=9), annotation(1, "dog", at=3), annotation(2, "dog")),
        task("p", annotation(1, "bird", at=12)),  # the same photo once more
    ]
    done, report = synced([{"id": "p"}], tasks)
    assert entries(done[0]) == {EMAILS[1]: ["bird"], EMAILS[2]: ["dog"]}
    assert report.skipped == {
        "annotations that a later one of the same annotator replaced": 2,
        "tasks that were joined with another one of the same photo": 1,
    }


def test_cancelled_and_empty_annotations_and_drafts_say_nothing() -> None:
    tasks = [
        task(
            "p",
            annotation(1, "dog", was_cancelled=True),
            annotation(2),
            annotation(3, "cat"),
            annotation(3, "dog", at=50, was_cancelled=True),
            drafts=[annotation(1, "dog")],
        )
    ]
    done, report = synced([{"id": "p"}], tasks)
    assert entries(done[0]) == {EMAILS[3]: ["cat"]}
    assert report.skipped == {"annotations that were cancelled": 2, "annotations that are empty": 1}
    assert (report.annotations, report.taken, report.annotators) == (4, 1, 1)


def test_an_empty_annotation_takes_back_what_was_said_before() -> None:
    done = one([task("p", annotation(1, "dog", at=1), annotation(1, at=2), annotation(2, "cat"))])
    assert entries(done) == {EMAILS[2]: ["cat"]}


def test_people_are_told_as_numbers_or_objects_alike() -> None:
    """The open-source edition exports a number, the paid one an object."""
    number = one([task("p", annotation(1, "dog"))])
    person = {"id": 1, "email": "ann@example.org", "first_name": "Ann"}
    assert one([task("p", annotation(person, "dog"))], annotators=Annotators(names="email")) == number


def test_names_of_people() -> None:
    person = {"id": 1, "email": " Ann@Example.org "}
    hashed = entries(one([task("p", annotation(person, "dog"))], annotators=Annotators()))
    assert list(hashed) == ["annotator-438c4c7afe60"]
    rebuilt = entries(one([task("p", annotation(99, "dog"))], annotators=Annotators(emails={99: "ann@example.org"})))
    assert rebuilt == hashed
    assert entries(one([task("p", annotation(1, "dog"))], annotators=Annotators(names="id"))) == {"1": ["dog"]}
    assert entries(one([task("p", annotation(None, "dog"))])) == {"deleted-annotator": ["dog"]}
    with pytest.raises(
        SparsightError, match=r"address of Label Studio's user 1 isn't known; annotators=hashed takes it"
    ):
        one([task("p", annotation(1, "dog"))], annotators=Annotators())


def test_reviews_of_the_paid_edition() -> None:
    def review(accepted: bool | None, at: int) -> dict[str, Any]:
        return {"id": at, "accepted": accepted, "created_at": f"2026-01-02T00:00:{at:02d}Z", "created_by": {"id": 9}}

    def reviewed(*reviews: dict[str, Any]) -> bool:
        return one([task("p", annotation(1, "dog", reviews=list(reviews)))])["has_review"]

    assert not reviewed()
    assert reviewed(review(True, 1))
    assert not reviewed(review(False, 1))
    assert reviewed(review(True, 2), review(False, 1))
    assert not reviewed(review(True, 2), review(False, 3))
    assert reviewed({"id": 1, "accepted": True, "created_at": None}, {"id": 2, "accepted": None})
    said = [annotation(1, "dog", reviews=[]), annotation(2, "cat", reviews=[review(True, 1)])]
    flags = {entry["annotator_id"]: entry["reviewed"] for entry in one([task("p", *said)])["labels_with_taxonomy"]}
    assert flags == {EMAILS[1]: False, EMAILS[2]: True}


@pytest.mark.parametrize("reviewer", ["2", "BEN@example.org "])
def test_a_reviewers_annotation_is_a_review(reviewer: str) -> None:
    annotators = Annotators(names="email", emails=EMAILS, reviewers=("", reviewer))
    annotators.check_reviewers()
    assert not one([task("p", annotation(1, "dog"))], annotators=annotators)["has_review"]
    assert one([task("p", annotation(1, "dog"), annotation(2, "cat"))], annotators=annotators)["has_review"]


def test_times_and_results_may_be_missing() -> None:
    late = annotation(1, "dog", id="1001")  # Label Studio's own documentation has numbers as texts
    early = annotation(1, "cat", created_at=None, updated_at=None)
    nothing = annotation(2, result=None, was_cancelled=None)
    assert entries(one([task("p", late, early, nothing)])) == {EMAILS[1]: ["dog"]}


def test_a_reviewer_whom_nobody_knows_is_told() -> None:
    with pytest.raises(SparsightError, match=r"no user 'bne@example.org' to review\.\nDid you mean 'ben@example.org'"):
        Annotators(emails=EMAILS, reviewers=("bne@example.org",)).check_reviewers()
    Annotators(reviewers=("nobody@example.org",)).check_reviewers()  # there is nothing to look in


def test_annotators_who_agree_review_each_other() -> None:
    def reviewed(*said: dict[str, Any], agreeing: int = 2) -> list[str]:
        document = one([task("p", *said)], agreeing=agreeing)
        found = [entry["annotator_id"] for entry in document["labels_with_taxonomy"] if entry["reviewed"]]
        assert document["has_review"] == bool(found)
        return found

    same = [annotation(1, "dog", "cat"), annotation(2, "cat", "dog"), annotation(3, "dog")]
    assert reviewed(*same) == [EMAILS[1], EMAILS[2]]
    assert reviewed(*same, agreeing=3) == []
    assert reviewed(*same, agreeing=0) == []
    assert reviewed(annotation(1, "dog"), annotation(1, "dog", at=5)) == []


OTHERS: list[Any] = [
    {"annotator_id": "simulated-1", "taxonomy": [["dog"]], "extra": 1},
    {"annotator_id": "folder", "taxonomy": [["dog"]]},
    "odd",
    {"annotator_id": EMAILS[1], "taxonomy": [["dog"]], "source": "elsewhere"},
]


def test_annotations_of_others_stay_as_and_where_they_are() -> None:
    before = {"id": "p", "labels_with_taxonomy": OTHERS, "total_annotations": 4}
    after = one([task("p", annotation(1, "cat"))], before)
    assert after["labels_with_taxonomy"][:4] == OTHERS
    assert after["total_annotations"] == 5
    gone = one([task("p")], after)
    assert gone["labels_with_taxonomy"] == OTHERS
    untouched = {"id": "p", "labels_with_taxonomy": OTHERS, "total_annotations": 99}
    assert one([task("p")], untouched) == untouched


def test_an_older_record_of_the_same_annotator_gives_way() -> None:
    """Documents that another program filled hold people's numbers and no source."""
    before = {"id": "p", "labels_with_taxonomy": [{"annotator_id": 1, "taxonomy": [["dog"]]}], "total_annotations": 1}
    after = one([task("p", annotation(1, "cat"))], before, annotators=Annotators(names="id"))
    assert entries(after) == {"1": ["cat"]}
    assert after["total_annotations"] == 1


def test_deleted_annotations_go_if_the_export_is_whole() -> None:
    before = one([task("p", annotation(1, "dog"), annotation(2, "cat"))])
    fewer = [task("p", annotation(2, "cat"))]
    assert entries(one(fewer, before)) == {EMAILS[2]: ["cat"]}
    assert entries(one(fewer, before, clear=False)) == entries(before)
    assert entries(one([], before, clear=False)) == entries(before)
    nothing = one([], before)
    assert (nothing["labels_with_taxonomy"], nothing["total_annotations"]) == ([], 0)
    assert not nothing["has_imagerecognition_labels"]


def test_what_was_taken_back_goes_also_if_the_export_is_a_part() -> None:
    before = one([task("p", annotation(1, "dog", at=1), annotation(2, "cat"))])
    after = one([task("p", annotation(1, was_cancelled=True))], before, clear=False)
    assert entries(after) == {EMAILS[2]: ["cat"]}


def test_each_annotator_has_one_annotation_over_all_projects() -> None:
    """Whatever the order of the syncs, what was said last stands; and what stood before, once that is deleted."""
    first, second = [task("p", annotation(1, "dog", at=5))], [task("p", annotation(1, "cat", at=9))]
    document = one(second, one(first), project="Review")
    assert entries(document) == {EMAILS[1]: ["cat"]}
    assert one(first, document) == document
    assert entries(one(first, one([], document, project="Review"))) == {EMAILS[1]: ["dog"]}


def test_a_review_by_others_stays_while_their_annotations_do() -> None:
    before = {"id": "p", "labels_with_taxonomy": OTHERS[:1], "total_annotations": 1, "has_review": True}
    after = one([task("p", annotation(1, "cat"))], before)
    assert after["has_review"] is True
    assert one([task("p")], after)["has_review"] is True
    alone = {"id": "p", "labels_with_taxonomy": [], "has_review": True}
    assert one([task("p", annotation(1, "cat"))], alone)["has_review"] is False


def test_time_alone_is_no_difference() -> None:
    done, _ = synced([{"id": "p"}], [task("p", annotation(1, "dog", at=1))])
    _, report = synced(done, [task("p", annotation(1, "dog", at=8))])
    assert report.changed == 0


def test_another_order_is_no_difference() -> None:
    tasks = [task("p", annotation(1, "dog"), annotation(2, "cat"))]
    done = one(tasks, {"id": "p", "labels_with_taxonomy": OTHERS})
    mixed = {**done, "labels_with_taxonomy": done["labels_with_taxonomy"][::-1]}
    assert one(tasks, mixed) == mixed


def test_fields_that_do_not_follow_from_the_annotations_are_mended() -> None:
    done = one([task("p", annotation(1, "dog"))])
    assert one([task("p", annotation(1, "dog"))], {**done, "total_annotations": 7, "has_review": None}) == done


def test_tasks_that_are_not_ours_are_counted() -> None:
    tasks = [
        task(None, annotation(1, "dog")),
        task("p", annotation(1, "dog"), container=None),
        task("p", annotation(1, "dog"), container="cars"),
        task(12, annotation(1, "dog")),
    ]
    done, report = synced([{"id": "p"}, {"id": "12"}], tasks)
    assert [entries(document) for document in done] == [{}, {EMAILS[1]: ["dog"]}]
    assert report.skipped == {
        "tasks whose data lack the photo's id or container": 2,
        "tasks of other containers": 1,
    }


TAXONOMY = Taxonomy(
    nodes=derive_taxonomy({("dog", "poodle"): 1, ("cat",): 1}).nodes,
    retired={("poodle",): ("dog", "poodle"), ("x",): None},
)


def test_a_taxonomy_renames_what_comes_in_and_lists_what_it_does_not_know() -> None:
    said = [annotation(1, "poodle", "dgo"), annotation(2, "x"), annotation(3, "dgo")]

    def run(unknown_labels: str) -> tuple[dict[str, list[str]], SyncReport]:
        done, report = synced([{"id": "p"}], [task("p", *said)], taxonomy=TAXONOMY, unknown_labels=unknown_labels)
        return entries(done[0]), report

    kept, report = run("keep")
    assert kept == {EMAILS[1]: ["dgo", "dog/poodle"], EMAILS[3]: ["dgo"]}
    assert report.labels is not None
    assert "'dgo', given 2 times: unknown; nearest is 'dog'" in str(report)
    assert report.skipped == {"annotations all of whose labels are dropped": 1}
    assert run("drop")[0] == {EMAILS[1]: ["dog/poodle"]}
    with pytest.raises(SparsightError, match="doesn't know 1 label:\n  - 'dgo', given 2 times"):
        run("refuse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "isn't a list of tasks"),
        ("", "isn't a list of tasks"),
        ("[", "is broken off, or isn't JSON, after task 0"),
        ('[{"id": 1, "data": {}, "annotations": []}, {"id"', "is broken off, or isn't JSON, after task 1"),
        ('[{"id": 1, "data": {}, "annotations": []}', "is broken off, or isn't JSON, after task 1"),
        ('[{"id": 1, "data": {}, "annotations": []}] x', "is broken off, or isn't JSON, after task 1"),
        ('[{"id": 1, "data": {}, "annotations": [] "x"}]', "is broken off, or isn't JSON, after task 0"),
        (
            '[{"id": 1, "image": "x", "taxonomy": {}}]',
            "task number 1 isn't as Label Studio exports it: data: Field required",
        ),
        ("[3]", "task number 1 isn't as Label Studio exports it"),
    ],
)
def test_an_export_that_is_not_whole_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(content)
    with pytest.raises(SparsightError) as refused:
        list(parse_tasks(read_tasks(file), "The export"))
    assert message in str(refused.value)


def test_an_export_survives_being_cut_anywhere_only_as_an_error(tmp_path: Path) -> None:
    whole = json.dumps([task("p", annotation(1, "dog")), task("q", annotation(2, "cät"))], ensure_ascii=False).encode()
    file = tmp_path / "export.json"
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(SparsightError):
            list(read_tasks(file))
    file.write_bytes(whole)
    assert list(read_tasks(file)) == json.loads(whole)


def test_an_export_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"none\.json can't be read: No such file"):
        list(read_tasks(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "value", [None, [["dog"]], {"taxonomy": "dog"}, {"taxonomy": [[]]}, {"taxonomy": [["dog", 3]]}]
)
def test_a_result_of_another_shape_is_refused(value: Any) -> None:
    said = annotation(1)
    said["result"] = [{"type": "taxonomy", "value": value}]
    with pytest.raises(SparsightError, match=f"Annotation {said['id']} isn't as Label Studio exports it: a result"):
        one([task("p", said)])


def test_an_export_of_several_projects_is_refused() -> None:
    with pytest.raises(SparsightError, match=r"several projects \(7 and 8\)"):
        one([task("p"), task("q", project=8)])


def test_users_are_read_in_both_shapes(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    file.write_text(json.dumps([{"id": number, "email": email, "username": "x"} for number, email in EMAILS.items()]))
    assert read_emails(file) == EMAILS
    file.write_text(json.dumps(EMAILS))
    assert read_emails(file) == EMAILS
    for odd in ('{"ann": "x"}', "[1]", "3", "{"):
        file.write_text(odd)
        with pytest.raises(SparsightError, match="holds no users of Label Studio"):
            read_emails(file)


LABELS = st.sampled_from(["a", "a/x", "a/y", "b", "b/x/1"])
SAID = st.builds(
    lambda who, labels, at, cancelled: annotation(who, *labels, at=at, was_cancelled=cancelled),
    st.sampled_from(list(EMAILS)),
    st.lists(LABELS, max_size=3),
    st.integers(0, 4),
    st.booleans(),
)
TASKS = st.lists(
    st.builds(lambda photo, said: task(photo, *said), st.sampled_from("pqr"), st.lists(SAID, max_size=4)), max_size=5
)
RULES = st.fixed_dictionaries({"agreeing": st.sampled_from([0, 2, 3])})
HELD = st.sampled_from([[], OTHERS[:1], OTHERS])


def naive(tasks: Sequence[Task], agreeing: int) -> dict[str, dict[str, tuple[list[str], bool]]]:
    """Photo -> annotator -> labels and whether they are reviewed, written down as plainly as can be."""
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for each in tasks:
        for said in each["annotations"]:
            key = (each["data"]["id"], said["completed_by"])
            if not said["was_cancelled"] and (key not in last or order(said) > order(last[key])):
                last[key] = said
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for (photo, who), said in last.items():
        labels = {"/".join(result["value"]["taxonomy"][0]) for result in said["result"]}
        deepest = sorted(label for label in labels if not any(other.startswith(f"{label}/") for other in labels))
        if deepest:
            found[photo][EMAILS[who]] = deepest
    return {
        photo: {
            who: (labels, bool(agreeing) and list(by.values()).count(labels) >= agreeing) for who, labels in by.items()
        }
        for photo, by in found.items()
    }


def order(said: dict[str, Any]) -> tuple[str, int]:
    return said["updated_at"], said["id"]


@given(TASKS, RULES, HELD)
def test_documents_hold_what_a_naive_reading_says(tasks: list[Task], rules: dict[str, int], held: list[Any]) -> None:
    documents = [{"id": photo, "labels_with_taxonomy": held, "total_annotations": len(held)} for photo in "pqr"]
    after, report = synced(documents, tasks, **rules)
    expected = naive(tasks, rules["agreeing"])
    for document in after:
        ours = document["labels_with_taxonomy"][len(held) :]
        found = {e["annotator_id"]: (["/".join(path) for path in e["taxonomy"]], e["reviewed"]) for e in ours}
        assert found == expected.get(document["id"], {})
        assert document["labels_with_taxonomy"][: len(held)] == held
        assert document["total_annotations"] == len(held) + len(found)
    assert report.taken == sum(map(len, expected.values()))
    assert report.annotations == sum(len(each["annotations"]) for each in tasks)


@given(TASKS, RULES, HELD, st.randoms(use_true_random=False))
def test_a_sync_again_or_in_another_order_changes_nothing(
    tasks: list[Task], rules: dict[str, int], held: list[Any], draw: Any
) -> None:
    documents = [{"id": photo, "labels_with_taxonomy": held} for photo in "pqr"]
    after, _ = synced(documents, tasks, **rules)
    mixed = [{**each, "annotations": draw.sample(each["annotations"], len(each["annotations"]))} for each in tasks]
    draw.shuffle(mixed)
    again, report = synced(after, mixed, **rules)
    assert (again, report.changed) == (after, 0)
    assert synced(documents, mixed, **rules)[0] == after


@given(TASKS, TASKS)
def test_a_sync_leads_to_the_export_whatever_was_there_before(before: list[Task], now: list[Task]) -> None:
    documents = [{"id": photo} for photo in "pqr"]
    over, _ = synced(synced(documents, before)[0], now)
    fresh, _ = synced(documents, now)
    assert [entries(document) for document in over] == [entries(document) for document in fresh]


@given(TASKS, TASKS)
def test_projects_may_be_synced_in_any_order(pets: list[Task], review: list[Task]) -> None:
    exports = {"Pets": pets, "Review": review}

    def run(*projects: str) -> list[dict[str, list[str]]]:
        documents = [{"id": photo} for photo in "pqr"]
        for project in projects:
            documents, _ = synced(documents, exports[project], project=project)
        return [entries(document) for document in documents]

    assert run("Pets", "Review") == run("Review", "Pets") == run("Pets", "Review", "Pets")
