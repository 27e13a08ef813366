// SPDX-License-Identifier: Apache-2.0
#include "damo/redo/redo_reader.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "damo/redo/boot_mark.h"
#include "damo/redo/log_file_system.h"
#include "damo/redo/redo_format.h"
#include "damo/redo/segment_reader.h"

namespace damo {
namespace {

// For one reading.
class LogReader {
 public:
  LogReader(LogFileSystem* file_system, const std::string& directory, uint64_t first_wanted, bool power_lost,
            const RedoVisitor& visit)
      : file_system_(file_system),
        directory_(directory),
        first_wanted_(first_wanted),
        power_lost_(power_lost),
        visit_(visit) {}

  StatusOr<RedoExtent> Read();

 private:
  // A place where the record that is due is not.
  struct BadPlace {
    uint64_t due;
    std::string path;
    uint64_t offset;
    std::string what;  // is wrong
    size_t next;       // the segments from this one on are behind it
  };

  std::string PathOf(size_t segment) const { return SegmentPath(directory_, segments_[segment]); }
  StatusOr<size_t> SkipUnwanted();
  // Reads segment i, which begins with the record `*due`, and moves that on. Returns the place where the log
  // ends, if it ends here.
  StatusOr<std::optional<BadPlace>> ReadSegment(size_t i, uint64_t* due);
  // Segment i begins with another record than the one that is due.
  BadPlace Gap(size_t i, uint64_t due) const;
  // OK if nothing behind shows that the log went on with records that are wanted. After loss of power it may
  // have: then OK unless it shows that the record that is due had been synced.
  Status CheckEnd(const BadPlace& bad);
  Status CheckBehind(const BadPlace& bad, const SegmentReader& reader, uint64_t offset);
  bool MayBeLost(uint64_t due) const { return power_lost_ && due >= first_wanted_; }

  StatusOr<SegmentReader> OpenSegment(size_t i) const {
    return SegmentReader::Open(file_system_, directory_, segments_[i]);
  }

  LogFileSystem* const file_system_;
  const std::string& directory_;
  const uint64_t first_wanted_;
  const bool power_lost_;
  const RedoVisitor& visit_;
  std::vector<uint64_t> segments_;  // first LSNs
  RedoExtent extent_;
};

StatusOr<RedoExtent> LogReader::Read() {
  DAMO_ASSIGN_OR_RETURN(segments_, ListSegments(directory_));
  DAMO_ASSIGN_OR_RETURN(size_t i, SkipUnwanted());
  uint64_t due = i < segments_.size() ? std::min(segments_[i], first_wanted_) : first_wanted_;
  std::optional<BadPlace> bad;
  while (i < segments_.size() && !bad) {
    if (segments_[i] != due) {
      bad = Gap(i, due);
      if (segments_[i] < due) return SegmentDamage(bad->path, bad->offset, bad->what);
    } else {
      DAMO_ASSIGN_OR_RETURN(bad, ReadSegment(i++, &due));
    }
  }
  if (bad) DAMO_RETURN_IF_ERROR(CheckEnd(*bad));
  for (; i < segments_.size(); ++i) extent_.segments.push_back({segments_[i], segments_[i], 0});
  extent_.end_lsn = std::max(due, first_wanted_);
  return std::move(extent_);
}

// Index of the segment that reading begins with: the last that begins at or before the first record wanted.
StatusOr<size_t> LogReader::SkipUnwanted() {
  const auto after = std::upper_bound(segments_.begin(), segments_.end(), first_wanted_);
  if (after == segments_.begin()) return size_t{0};
  const auto first = static_cast<size_t>(after - segments_.begin()) - 1;
  for (size_t i = 0; i < first; ++i) {
    std::error_code error;
    const uint64_t bytes = std::filesystem::file_size(PathOf(i), error);
    if (error) return IoError("read redo segment '", PathOf(i), "': ", error.message());
    extent_.segments.push_back({segments_[i], segments_[i + 1], bytes});
  }
  return first;
}

StatusOr<std::optional<LogReader::BadPlace>> LogReader::ReadSegment(size_t i, uint64_t* due) {
  DAMO_ASSIGN_OR_RETURN(const SegmentReader reader, OpenSegment(i));
  DAMO_ASSIGN_OR_RETURN(const SegmentEnd end, reader.Read(first_wanted_, visit_));
  extent_.segments.push_back({segments_[i], end.lsn, end.offset});
  *due = end.lsn;
  // What is behind the last record is no record if the next segment begins with the one that is due.
  const bool goes_on = i + 1 < segments_.size() && segments_[i + 1] == end.lsn;
  if (end.bad.empty() || goes_on) return std::optional<BadPlace>();
  BadPlace bad{end.lsn, reader.path(), end.offset, end.bad, i + 1};
  DAMO_RETURN_IF_ERROR(CheckBehind(bad, reader, end.behind));
  return std::optional<BadPlace>(std::move(bad));
}

LogReader::BadPlace LogReader::Gap(size_t i, uint64_t due) const {
  const uint64_t first_lsn = segments_[i];
  return {due, PathOf(i), 0,
          i == 0 ? StrCat("the log begins at LSN ", first_lsn, ", expected ", due, " or earlier")
                 : StrCat("the segment begins at LSN ", first_lsn, ", the one before it ends at ", due),
          i};
}

// One segment in memory at a time.
Status LogReader::CheckEnd(const BadPlace& bad) {
  if (bad.next < segments_.size() && !MayBeLost(bad.due)) {
    const bool gap = bad.path == PathOf(bad.next);
    return SegmentDamage(bad.path, bad.offset, StrCat(bad.what, gap ? "" : ", and another segment follows"));
  }
  for (size_t i = bad.next; i < segments_.size(); ++i) {
    DAMO_ASSIGN_OR_RETURN(const SegmentReader reader, OpenSegment(i));
    DAMO_RETURN_IF_ERROR(CheckBehind(bad, reader, kFrameAlignment));
  }
  return Status();
}

Status LogReader::CheckBehind(const BadPlace& bad, const SegmentReader& reader, uint64_t offset) {
  FrameSearch search;
  search.due = bad.due;
  search.min_lsn = first_wanted_;  // what is in the rows is no loss
  const auto found = reader.FindFrame(offset, search);
  if (!found) return Status();
  if (!MayBeLost(bad.due)) {
    return SegmentDamage(bad.path, bad.offset,
                         StrCat(bad.what, ", and a good frame follows at offset ", *found));
  }
  search.min_synced_lsn = bad.due + 1;
  if (const auto proof = reader.FindFrame(*found, search)) {
    return SegmentDamage(bad.path, bad.offset,
                         StrCat(bad.what, ", but record ", bad.due, " had been synced when offset ", *proof,
                                " of '", reader.path(), "' was written"));
  }
  extent_.given_up.place = StrCat("redo segment '", bad.path, "', offset ", bad.offset, ": ", bad.what);
  ++extent_.given_up.num_segments;
  extent_.given_up.num_bytes += reader.size() - *found;
  return Status();
}

}  // namespace

StatusOr<RedoExtent> ScanRedoLog(LogFileSystem* file_system, const std::string& directory, uint64_t first_lsn,
                                 bool power_lost, const RedoVisitor& visit) {
  return LogReader(file_system, directory, first_lsn, power_lost, visit).Read();
}

StatusOr<uint64_t> ReadRedoLog(const std::string& directory, uint64_t first_lsn, const RedoVisitor& visit,
                               LogFileSystem* file_system) {
  if (file_system == nullptr) file_system = LogFileSystem::Posix();
  const bool power_lost = MayHaveLostPower(directory, file_system->BootId());
  DAMO_ASSIGN_OR_RETURN(const RedoExtent extent,
                        ScanRedoLog(file_system, directory, first_lsn, power_lost, visit));
  return extent.end_lsn;
}

}  // namespace damo
