#!/usr/bin/env python3
"""Bugs that the simulation must find: planted into copies of the sources, each behind its number.

    canaries.py plant SOURCE OUTPUT     the source with its canaries; IsAwake(N) asks for one
    canaries.py names OUTPUT            a C++ table of all names
    canaries.py files                   the sources that hold canaries

A canary whose place in the source is gone fails the build: give it the new text, or another bug of its kind.
"""
import os
import sys

# (name, source, text as it is, text with the bug). CANARY is true when it is awake. The text occurs once.
CANARIES = [
    # Partial answers.
    ("partial_answer_forgets_one", "engine/delivery/delivery.cc",
     "Item rest = item.With(again);",
     "Item rest = item.With(CANARY && again != 1 ? again & (again - 1) : again);"),
    ("throttled_counts_as_delivered", "engine/delivery/delivery.cc",
     "        again |= bit;",
     "        if (CANARY && again != 0) { Deliver(item, bit, actions); } else { again |= bit; }"),
    ("entries_hit_one_document", "backends/xray/unprocessed.cc",
     "unmatched_ &= ~(DocumentSet{1} << index);",
     "if (!CANARY) unmatched_ &= ~(DocumentSet{1} << index);"),
    ("twin_counts_as_delivered", "backends/xray/unprocessed.cc",
     "settle(matches[i]->alike, entry",
     "settle(CANARY ? DocumentSet{1} << matches[i]->index : matches[i]->alike, entry"),
    ("garbage_counts_as_delivered", "backends/xray/answer.cc",
     "    if (!empty) {",
     "    if (!empty && !CANARY) {"),
    ("split_loses_a_half", "engine/delivery/delivery.cc",
     "    PutBack(std::move(upper_half), actions);",
     "    if (!CANARY) PutBack(std::move(upper_half), actions);"),
    # Pacing.
    ("ignores_retry_after", "engine/delivery/delivery.cc",
     "std::max(retry_after, Backoff(failures_))",
     "std::max(CANARY ? Duration::zero() : retry_after, Backoff(failures_))"),
    ("never_recovers", "engine/delivery/delivery.cc",
     "  failures_ = 0;\n  degraded_ = false;",
     "  if (!CANARY) failures_ = 0;\n  degraded_ = false;"),
    ("timer_goes_round", "engine/delivery/delivery.cc",
     "failures_ > 0 && NextSource() != Source::kNone",
     "failures_ > 0 && (CANARY ? MayStart() : NextSource() != Source::kNone)"),
    # What the far side cannot bear.
    ("poison_is_not_halved", "engine/delivery/delivery.cc",
     "again.strikes >= kStrikesToSplit",
     "again.strikes >= kStrikesToSplit && !CANARY"),
    ("outage_is_taken_for_poison", "engine/delivery/delivery.cc",
     "const bool others_passed = delivered",
     "const bool others_passed = (CANARY && (well = true)) || delivered"),
    ("the_same_asks_again", "engine/delivery/delivery.cc",
     "  if (failures_ == 0) return 0;",
     "  if (failures_ == 0 || CANARY) return 0;"),
    # Memory.
    ("drop_is_not_counted", "engine/delivery/delivery.cc",
     "  account_->Drop(reason, n);",
     "  if (!CANARY) account_->Drop(reason, n);"),
    ("quota_is_not_kept", "engine/delivery/delivery.cc",
     "  if (held <= options_.quota) return;",
     "  if (held <= options_.quota || CANARY) return;"),
    ("inbox_drop_is_not_counted", "engine/queue/lane_inbox.cc",
     "    account_->Drop(DropReason::kBufferFull, oldest->size());",
     "    if (!CANARY) account_->Drop(DropReason::kBufferFull, oldest->size());"),
    ("batch_leaks", "engine/queue/lane_inbox.cc",
     "    account_->held_bytes.Sub(oldest->cost());",
     "    account_->held_bytes.Sub(oldest->cost());\n    if (CANARY) (void)oldest.Release();"),
    # The way to disk and back.
    ("refused_spill_is_forgotten", "engine/delivery/delivery.cc",
     "  if (on_disk) {",
     "  if (on_disk || CANARY) {"),
    ("end_forgets_who_waits_alone", "engine/delivery/delivery.cc",
     "  for (Item& item : std::exchange(waiting_, {})) give_up(std::move(item));",
     "  for (Item& item : std::exchange(waiting_, {})) {\n    if (!CANARY) give_up(std::move(item));\n  }"),
    ("settled_when_sent", "engine/delivery/delivery.cc",
     "    if (restored_last_) ++restored_in_flight_;",
     "    if (restored_last_) ++restored_in_flight_;\n"
     "    if (restored_last_ && CANARY) actions->settles.push_back({item.held->token, item.documents});"),
    ("frame_put_back_is_forgotten", "engine/spool/spool.cc",
     "    again_.push_back(*loan);",
     "    if (!CANARY) again_.push_back(*loan);"),
    # The disk.
    ("mark_covers_the_frame", "engine/spool/spool.cc",
     "EncodeMark(loan->all & ~loan->remaining)",
     "EncodeMark(CANARY ? loan->all : loan->all & ~loan->remaining)"),
    ("file_goes_with_lent_frames", "engine/spool/spool.cc",
     "file->cursor >= file->bytes && file->out == 0;",
     "file->cursor >= file->bytes && (file->out == 0 || CANARY);"),
    ("batch_is_not_synced", "engine/spool/spool.cc",
     "if (whole && options_.fsync == Fsync::kBatch)",
     "if (whole && options_.fsync == Fsync::kBatch && !CANARY)"),
    ("name_is_not_synced", "engine/spool/spool.cc",
     "if (status.ok() && options_.fsync == Fsync::kBatch) status = home_->dir()->Sync();",
     "if (status.ok() && options_.fsync == Fsync::kBatch && !CANARY) status = home_->dir()->Sync();"),
    ("checksum_is_not_compared", "engine/spool/spool_format.cc",
     "|| Crc32c(stored) != header.payload_crc ||",
     "|| (!CANARY && Crc32c(stored) != header.payload_crc) ||"),
    ("foreign_file_is_sent", "engine/spool/spool.cc",
     "lane->identity_ == header->identity;",
     "(CANARY || lane->identity_ == header->identity);"),
    ("lock_is_not_asked", "engine/spool/spool_home.cc",
     "  if (!*locked) return;",
     "  if (!*locked && !CANARY) return;"),
    ("budget_is_passed", "engine/spool/spool.cc",
     "  while (bytes_ + bytes > options_.bytes_max) {",
     "  while (bytes_ + bytes > options_.bytes_max + (CANARY ? 100'000 : 0)) {"),
    ("share_is_not_fair", "engine/spool/spool.cc",
     "return a->account_.bytes.value() < b->account_.bytes.value();",
     "return CANARY ? a->files_.empty() && !b->files_.empty()\n"
     "                        : a->account_.bytes.value() < b->account_.bytes.value();"),
    ("full_spool_forgets_uncounted", "engine/spool/spool.cc",
     "  lane->account_.Drop(reason, documents);\n  file->documents = lent;",
     "  if (CANARY) { lane->account_.held.Sub(documents); lane->account_.restored.Sub(documents); }\n"
     "  if (!CANARY) lane->account_.Drop(reason, documents);\n  file->documents = lent;"),
]


def plant(source, text):
    """`text`, the content of `source`, with its canaries; ValueError when one has no place."""
    found = False
    for number, (name, place, old, new) in enumerate(CANARIES, 1):
        if place != source:
            continue
        found = True
        if text.count(old) != 1:
            raise ValueError(f"the canary {name} wants one place in {source}, and finds {text.count(old)}: "
                             f"mend tests/sim/canaries.py")
        text = text.replace(old, new.replace("CANARY", f"mobula::sim::IsAwake({number})"))
    if not found:
        raise ValueError(f"there is no canary for {source}")
    return '#include "tests/sim/canary.h"\n' + text


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    if sys.argv[1:] == ["files"]:
        print("\n".join(sorted({place for _, place, _, _ in CANARIES})))
        return 0
    if sys.argv[1] == "names":
        with open(sys.argv[2], "w", encoding="utf-8") as f:
            f.write("".join(f'"{name}",\n' for name, _, _, _ in CANARIES))
        return 0
    source = os.path.relpath(sys.argv[2], root)
    with open(sys.argv[2], encoding="utf-8") as f:
        text = f.read()
    try:
        planted = plant(source, text)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        f.write(planted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
