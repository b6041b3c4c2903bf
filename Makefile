# The two commands a newcomer needs: `make demo` and `make test`. Everything else serves them.
# `make demo-usb` is the demo at a real USB host stack, `make demo-devices` shows devices that trust each other.
.PHONY: demo demo-usb demo-devices bench-registry test check firmware size bench-device bytes fuzz clean setup

CARGO ?= cargo
# What has to build for a browser as well: the cores, which both ends use.
WASM := commissioning-cbor edhoc-oscore
# cargo-nextest runs the tests side by side and prints them better; plain cargo test does as well.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

# A simulated device on a pty, commissioned, listed, reflashed, commissioned again.
demo:
	@tests/setup.sh build
	@$(CARGO) build --quiet --package commissioner-cli --package device-sim
	@examples/demo.sh

# The same at a USB cable: a Linux guest in an emulator has a USB host controller without any hardware.
demo-usb:
	@tests/setup.sh build
	@tests/usb/prepare.sh
	@$(CARGO) build --quiet --package commissioner-cli --package device-sim
	@examples/demo-usb.sh

# A light that obeys my devices, until one of them is revoked.
demo-devices:
	@tests/setup.sh build
	@$(CARGO) build --quiet --package commissioner-cli --package device-sim
	@examples/demo-devices.sh

# All checks and all tests, the independent peers included.
test: setup check firmware
	$(CARGO) build --package commissioner-cli --package device-sim --package commissioning-examples
	$(CARGO) test --workspace --doc --quiet
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace
else
	$(CARGO) test --workspace --all-targets
endif
	@[ -e target/usb-guest/made-of ] || echo "LEFT OUT: the tests at a real USB host stack; tests/usb/prepare.sh says why"

# Format, lints, documentation; licences, the Rust version that is promised, packages; browsers; what the firmware takes.
check: setup firmware
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	@for features in "" ports registry; do \
		$(CARGO) clippy --package commissioner --no-default-features --features "$$features" --quiet -- -D warnings || exit 1; \
	done
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@tests/deny.sh
	@tests/rust_version.sh
	@tests/package.sh
	@tests/wasm.sh $(WASM)
	@device/firmware/build.sh --check
	@device/firmware/sizes.sh

# The firmware of every board, in target/firmware: it takes a compiler for its target, and says where to get one.
firmware: setup
	@device/firmware/build.sh

# Flash, RAM and stack of each firmware, and what the device does in instructions: the tables of docs/benchmarks.md.
size bench-device: firmware
	@$(CARGO) build --quiet --package device-sim --package commissioner-cli --package commissioning-examples
	@$(CARGO) run --quiet --package commissioning-examples --bin firmware-costs -- $(if $(filter size,$@),sizes,instructions)

# The registry with 20, 20,000 and 1,000,000 devices, the table of docs/benchmarks.md: some minutes, and a GiB of disk.
bench-registry:
	@tests/setup.sh build
	@$(CARGO) run --quiet --release --package commissioning-examples --bin registry-costs

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
