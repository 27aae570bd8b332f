package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/sink"
)

// ErrNotMigrated says that the server's schema is not the one of this program.
var ErrNotMigrated = errors.New("schema is not migrated")

// Error is an exception of the server.
type Error struct {
	Status  int    // HTTP status
	Code    int    // ClickHouse's exception code; 0 when something before the server answered
	Message string // the exception, cut to a few hundred bytes
}

func (e *Error) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("HTTP status %d: %s", e.Status, e.Message)
	}
	return fmt.Sprintf("code %d: %s", e.Code, e.Message)
}

// Exception codes that this package acts on (ClickHouse, src/Common/ErrorCodes.cpp).
const (
	codeTableExists  = 57
	codeUnknownTable = 60
	codeUnknownDB    = 81
	codeTimeout      = 159
	codeMemory       = 241
	codeLogin        = 516
)

// Is classes the exception: sink.ErrRefused when the block itself is at fault.
func (e *Error) Is(target error) bool { return target == sink.ErrRefused && blockAtFault[e.Code] }

// blockAtFault are the codes that a block gets for its bytes. All others may pass (no memory, no disk, no table yet, no
// Keeper) and are worth trying again: a block that is put aside too early costs an operator's time, one that is tried
// too long only delays.
var blockAtFault = map[int]bool{
	6: true, 26: true, 27: true, 38: true, 41: true, 72: true, // CANNOT_PARSE_*
	7: true, 9: true, 20: true, 190: true, 349: true, // sizes of columns and arrays, NULL
	32: true, 33: true, 117: true, 246: true, 271: true, // truncated, incorrect, corrupted
	36: true, 43: true, 44: true, 50: true, 53: true, 70: true, // types
	69: true, 128: true, 131: true, // out of bounds, too large
	407: true, 469: true, // overflow, constraint
	1001: true, // STD_EXCEPTION: length_error and the like in a decoder
}

// IsRetryable says whether the same call may succeed later. A call that timed out or lost its connection may have
// succeeded already: inserts carry a token for that.
func IsRetryable(err error) bool {
	return err != nil && !errors.Is(err, sink.ErrRefused)
}

const maxMessage = 600

// errorOf reads the exception of an answer. It does not close the body.
func errorOf(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	e := &Error{Status: response.StatusCode, Message: cleanMessage(string(body))}
	e.Code, _ = strconv.Atoi(response.Header.Get("X-ClickHouse-Exception-Code"))
	if e.Code == 0 {
		e.Code = codeIn(e.Message)
	}
	return e
}

// codeIn finds the code in "Code: 159. DB::Exception: …".
func codeIn(message string) int {
	_, rest, _ := strings.Cut(message, "Code: ")
	digits, _, _ := strings.Cut(rest, ".")
	code, _ := strconv.Atoi(digits)
	return code
}

func cleanMessage(s string) string {
	s = strings.TrimSpace(strings.ToValidUTF8(s, "?"))
	if _, text, ok := strings.Cut(s, "DB::Exception: "); ok {
		if code := codeIn(s); code != 0 {
			s = fmt.Sprintf("Code: %d. %s", code, text)
		}
	}
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
