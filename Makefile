# The two commands a newcomer needs: `make demo` and `make test`. Everything else serves them.
.PHONY: demo test check check-no-std bytes fuzz clean setup

CARGO ?= cargo
# cargo-nextest runs the tests side by side and prints them better; plain cargo test does as well.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

# A simulated device on a pty, commissioned, listed, reflashed, commissioned again.
demo:
	@tests/setup.sh build
	@$(CARGO) build --quiet --package commissioner --package device-sim
	@examples/demo.sh

# All checks and all tests, the independent peers included.
test: setup check check-no-std
	$(CARGO) build --package commissioner --package device-sim --package commissioning-examples
	$(CARGO) test --workspace --doc --quiet
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace
else
	$(CARGO) test --workspace --all-targets
endif

# Format, lints, documentation, licences.
check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@tests/deny.sh

# The device's crates for a microcontroller without an operating system (thumbv6m).
check-no-std: setup
	@tests/no-std.sh

# Every message of a commissioning session with its size, as docs/protocol.md shows it.
bytes:
	@tests/setup.sh build
	@$(CARGO) build --quiet --package device-sim
	@$(CARGO) run --quiet --package commissioning-examples --bin message-sizes

setup:
	@tests/setup.sh all

clean:
	$(CARGO) clean

# Fuzzes every entry point for SECONDS each (cargo-fuzz); `make test` runs a smoke of the same.
SECONDS ?= 60
fuzz:
	@tests/fuzz/run.sh $(SECONDS)
