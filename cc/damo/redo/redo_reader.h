// SPDX-License-Identifier: Apache-2.0
//
// ScanRedoLog: reads a log and tells which bytes of which segments it consists of.
#ifndef DAMO_REDO_REDO_READER_H_
#define DAMO_REDO_REDO_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "damo/base/status.h"
#include "damo/redo/redo_log.h"

namespace damo {

// What of a segment belongs to the log.
struct SegmentExtent {
  uint64_t first_lsn = 0;
  uint64_t end_lsn = 0;  // of the record that would be next; first_lsn: nothing belongs to it
  uint64_t bytes = 0;    // header and records
};

// What of a log is lost because the machine lost power before it was synced: records that can be read, behind
// one that cannot.
struct RedoGivenUp {
  std::string place;       // of the one that cannot be read, and what is wrong there
  int num_segments = 0;    // that have records behind it
  uint64_t num_bytes = 0;  // in them, from the first of these records on
};

struct RedoExtent {
  uint64_t end_lsn = 0;                 // of the log's next record
  std::vector<SegmentExtent> segments;  // all that stand, ascending; those without records come last
  RedoGivenUp given_up;
};

// ReadRedoLog(), and where it found what. `power_lost` says whether the machine may have restarted since the
// segments were written.
StatusOr<RedoExtent> ScanRedoLog(LogFileSystem* file_system, const std::string& directory, uint64_t first_lsn,
                                 bool power_lost, const RedoVisitor& visit);

}  // namespace damo

#endif  // DAMO_REDO_REDO_READER_H_
