// openmm.cpp: the engine "openmm", a thin layer over OpenMM's C++ interface; the only C++ file.
//
// Owns: an OpenMM::System made from a tbg_system's own tables (or read from a serialized one), one context
// per thread. Every exception ends here and becomes a status. Opening and closing contexts and reading XML
// are not thread-safe in OpenMM 7.7 (wrong energies, crashes), so one mutex guards them; evaluating separate
// contexts in separate threads is. The platform is always named: Reference (double precision) unless told
// otherwise; CPU is pinned to one thread per context, since small molecules are spread over contexts instead.
#include <OpenMM.h>
#include <openmm/serialization/XmlSerializer.h>

#include <expat.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <omp.h>

extern "C" {
#include "energy/engine.h"
#include "tbg/status.h"
}

using namespace OpenMM;

namespace {

std::mutex guard; // contexts, plugins, XML

struct Worker {
    std::unique_ptr<VerletIntegrator>
        integrator; // after the context is gone; a context needs one, it never steps
    std::unique_ptr<Context> context;
    ~Worker() {
        context.reset();
    }
};

struct Pool {
    std::unique_ptr<System> system;
    Platform *platform = nullptr;
    std::map<std::string, std::string> properties;
    std::vector<std::unique_ptr<Worker>> workers; // made when first needed
};

Platform *known_platform(const std::string &name) {
    for (int i = 0; i < Platform::getNumPlatforms(); i++)
        if (Platform::getPlatform(i).getName() == name)
            return &Platform::getPlatform(i);
    return nullptr;
}

// Every platform but Reference is a plugin. Only the one asked for is loaded: others may wake drivers of
// devices.
Platform *find_platform(const std::string &name) {
    const std::string folders[] = {Platform::getDefaultPluginsDirectory(), TBG_OPENMM_PLUGINS};
    bool plain =
        name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == std::string::npos;
    for (const std::string &folder : folders) {
        std::string file = folder + "/libOpenMM" + name + ".so";
        if (!known_platform(name) && plain && std::ifstream(file))
            Platform::loadPluginLibrary(file);
    }
    if (Platform *platform = known_platform(name))
        return platform;
    std::string known;
    for (int i = 0; i < Platform::getNumPlatforms(); i++)
        known += (i ? ", " : "") + Platform::getPlatform(i).getName();
    throw OpenMMException("no platform '" + name + "' (there are " + known +
                          "; CPU needs libopenmm-plugins)");
}

NonbondedForce *nonbonded(const tbg_system &s) {
    auto *force = new NonbondedForce();
    for (int i = 0; i < s.n_atoms; i++)
        force->addParticle(s.charge[i], s.sigma[i], s.epsilon[i]);
    std::set<std::pair<int, int>> plain;
    for (int p = 0; p < s.n_pairs; p++)
        plain.insert({s.pairs[p][0], s.pairs[p][1]});
    for (int p = 0; p < s.n_pairs14; p++) {
        const tbg_pair_term &q = s.pairs14[p];
        force->addException(q.i, q.j, q.charge_product, q.sigma, q.epsilon);
        plain.insert({q.i, q.j});
    }
    for (int i = 0; i < s.n_atoms; i++)
        for (int j = i + 1; j < s.n_atoms; j++)
            if (!plain.count({i, j}))
                force->addException(i, j, 0, 1, 0);
    force->setReactionFieldDielectric(1);
    force->setNonbondedMethod(s.cutoff > 0 ? NonbondedForce::CutoffNonPeriodic : NonbondedForce::NoCutoff);
    if (s.cutoff > 0)
        force->setCutoffDistance(s.cutoff);
    return force;
}

// Model I has no force of its own in OpenMM: the same formulas as in reference.c, as expressions.
CustomGBForce *obc1(const tbg_system &s) {
    auto *force = new CustomGBForce();
    std::ostringstream constants, pair_energy;
    constants.precision(17);
    constants << "; strength=" << s.gb_coulomb * (1 / s.gb_solute - 1 / s.gb_solvent)
              << "; offset=" << s.gb_offset << "; probe=" << s.gb_probe << "; tension=" << s.gb_surface
              << "; alpha=" << s.gb_alpha << "; beta=" << s.gb_beta << "; gamma=" << s.gb_gamma;
    pair_energy.precision(17);
    force->addPerParticleParameter("q");
    force->addPerParticleParameter("rho");    // radius
    force->addPerParticleParameter("scaled"); // screening factor times reduced radius
    force->addComputedValue(
        "I",
        "step(r+scaled2-reduced)*0.5*(1/low-1/high+0.25*(r-scaled2^2/r)*(1/high^2-1/low^2)"
        "+0.5*log(low/high)/r); low=max(reduced,abs(r-scaled2)); high=r+scaled2;"
        "reduced=rho1-offset" +
            constants.str(),
        CustomGBForce::ParticlePairNoExclusions);
    force->addComputedValue("B",
                            "1/(1/reduced-tanh(alpha*psi-beta*psi^2+gamma*psi^3)/rho); psi=I*reduced;"
                            "reduced=rho-offset" +
                                constants.str(),
                            CustomGBForce::SingleParticle);
    force->addEnergyTerm("tension*(rho+probe)^2*(rho/B)^6-0.5*strength*q^2/B" + constants.str(),
                         CustomGBForce::SingleParticle);
    pair_energy << "-strength*q1*q2*(1/sqrt(r^2+B1*B2*exp(-r^2/(4*B1*B2)))-"
                << (s.cutoff > 0 ? 1 / s.cutoff : 0) << ")" << constants.str();
    force->addEnergyTerm(pair_energy.str(), CustomGBForce::ParticlePairNoExclusions);
    for (int i = 0; i < s.n_atoms; i++)
        force->addParticle({s.charge[i], s.gb_radius[i], s.gb_screen[i] * (s.gb_radius[i] - s.gb_offset)});
    force->setNonbondedMethod(s.cutoff > 0 ? CustomGBForce::CutoffNonPeriodic : CustomGBForce::NoCutoff);
    if (s.cutoff > 0)
        force->setCutoffDistance(s.cutoff);
    return force;
}

GBSAOBCForce *obc2(const tbg_system &s) {
    auto *force = new GBSAOBCForce();
    for (int i = 0; i < s.n_atoms; i++)
        force->addParticle(s.charge[i], s.gb_radius[i], s.gb_screen[i]);
    force->setSoluteDielectric(s.gb_solute);
    force->setSolventDielectric(s.gb_solvent);
    force->setSurfaceAreaEnergy(s.gb_surface / (4 * M_PI));
    force->setNonbondedMethod(s.cutoff > 0 ? GBSAOBCForce::CutoffNonPeriodic : GBSAOBCForce::NoCutoff);
    if (s.cutoff > 0)
        force->setCutoffDistance(s.cutoff);
    return force;
}

std::unique_ptr<System> make_system(const tbg_system &s) {
    auto system = std::make_unique<System>();
    auto add = [&](Force *force, int component) {
        force->setForceGroup(component);
        system->addForce(force); // owns it from here on
    };
    for (int i = 0; i < s.n_atoms; i++)
        system->addParticle(s.mass[i]);
    auto *bonds = new HarmonicBondForce();
    for (int t = 0; t < s.n_bonds; t++)
        bonds->addBond(s.bonds[t].i, s.bonds[t].j, s.bonds[t].length, s.bonds[t].k);
    add(bonds, TBG_E_BOND);
    auto *angles = new HarmonicAngleForce();
    for (int t = 0; t < s.n_angles; t++)
        angles->addAngle(s.angles[t].i, s.angles[t].j, s.angles[t].k, s.angles[t].angle,
                         s.angles[t].stiffness);
    add(angles, TBG_E_ANGLE);
    auto *torsions = new PeriodicTorsionForce();
    for (int t = 0; t < s.n_torsions; t++) {
        const tbg_torsion_term &q = s.torsions[t];
        torsions->addTorsion(q.i, q.j, q.k, q.l, q.periodicity, q.phase, q.barrier);
    }
    add(torsions, TBG_E_TORSION);
    add(nonbonded(s), TBG_E_NONBONDED);
    if (s.gb == TBG_GB_OBC1)
        add(obc1(s), TBG_E_GB);
    else if (s.gb == TBG_GB_OBC2)
        add(obc2(s), TBG_E_GB);
    return system;
}

// OpenMM 7.7's XML reader runs past the end of text that is no whole document, so a document it is, or
// refused here.
void check_document(const char *path, const std::string &text) {
    std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(XML_ParserCreate(nullptr),
                                                                        XML_ParserFree);
    if (!parser)
        throw std::bad_alloc();
    const size_t piece = 1 << 20;
    for (size_t at = 0, n; at == 0 || at < text.size(); at += n) {
        n = std::min(piece, text.size() - at);
        if (XML_Parse(parser.get(), text.data() + at, (int)n, at + n == text.size()) != XML_STATUS_OK)
            throw OpenMMException(std::string(path) + ":" +
                                  std::to_string(XML_GetCurrentLineNumber(parser.get())) + ": " +
                                  XML_ErrorString(XML_GetErrorCode(parser.get())));
        if (!n)
            break;
    }
}

// A serialized System; its forces are sorted into the components by kind, what is none of them counts as
// nonbonded.
std::unique_ptr<System> read_system(const char *path, int n_atoms) {
    std::ifstream file(path);
    if (!file)
        throw OpenMMException(std::string("can't read ") + path);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    check_document(path, text);
    std::unique_ptr<System> system;
    try {
        std::istringstream document(text);
        system.reset(XmlSerializer::deserialize<System>(document));
    } catch (const std::exception &e) {
        throw OpenMMException(std::string(path) + " is no serialized System: " + e.what());
    }
    if (system->getNumParticles() != n_atoms)
        throw OpenMMException(std::string(path) + " has " + std::to_string(system->getNumParticles()) +
                              " particles, the molecule " + std::to_string(n_atoms));
    for (int f = 0; f < system->getNumForces(); f++) {
        Force &force = system->getForce(f);
        int component = TBG_E_NONBONDED;
        if (dynamic_cast<HarmonicBondForce *>(&force) || dynamic_cast<CustomBondForce *>(&force))
            component = TBG_E_BOND;
        else if (dynamic_cast<HarmonicAngleForce *>(&force) || dynamic_cast<CustomAngleForce *>(&force))
            component = TBG_E_ANGLE;
        else if (dynamic_cast<PeriodicTorsionForce *>(&force) || dynamic_cast<RBTorsionForce *>(&force) ||
                 dynamic_cast<CustomTorsionForce *>(&force) || dynamic_cast<CMAPTorsionForce *>(&force))
            component = TBG_E_TORSION;
        else if (dynamic_cast<GBSAOBCForce *>(&force) || dynamic_cast<CustomGBForce *>(&force))
            component = TBG_E_GB;
        force.setForceGroup(component);
    }
    return system;
}

std::unique_ptr<Worker> make_worker(Pool &state) {
    std::lock_guard<std::mutex> lock(guard);
    auto worker = std::make_unique<Worker>();
    worker->integrator = std::make_unique<VerletIntegrator>(0.001);
    worker->context =
        std::make_unique<Context>(*state.system, *worker->integrator, *state.platform, state.properties);
    return worker;
}

// Positions that OpenMM's neighbour search can't take (NaN, or so far out that its cells overflow).
bool usable(const double *x, int n_atoms) {
    for (int i = 0; i < 3 * n_atoms; i++)
        if (!(std::fabs(x[i]) < 1e5))
            return false;
    return true;
}

void evaluate_one(Context &context, const double *x, int n_atoms, std::vector<Vec3> &positions,
                  double *energy, double *forces, double *components) {
    for (int i = 0; i < n_atoms; i++)
        positions[i] = Vec3(x[3 * i], x[3 * i + 1], x[3 * i + 2]);
    context.setPositions(positions);
    State result = context.getState(State::Energy | (forces ? State::Forces : 0));
    *energy = result.getPotentialEnergy();
    if (forces) {
        const std::vector<Vec3> &f = result.getForces();
        for (int i = 0; i < n_atoms; i++)
            for (int a = 0; a < 3; a++)
                forces[3 * i + a] = f[i][a];
    }
    for (int e = 0; components && e < TBG_E_N; e++)
        components[e] = context.getState(State::Energy, false, 1 << e).getPotentialEnergy();
}

int evaluate(struct tbg_engine *engine, long n, const double *positions, double *energies, double *forces,
             double *components) {
    auto &state = *static_cast<Pool *>(engine->state);
    int threads = n < engine->threads ? (int)n : engine->threads;
    size_t size = 3 * (size_t)engine->n_atoms;
    std::string problem;
#pragma omp parallel num_threads(threads)
    {
        int thread = omp_get_thread_num();
        bool ready = false;
        std::vector<Vec3> buffer;
        try {
            if (!state.workers[thread])
                state.workers[thread] = make_worker(state);
            buffer.resize(engine->n_atoms);
            ready = true;
        } catch (const std::exception &e) {
#pragma omp critical(tbg_openmm_problem)
            problem = e.what();
        }
#pragma omp for schedule(dynamic, 1)
        for (long c = 0; c < n; c++) {
            const double nan = std::numeric_limits<double>::quiet_NaN();
            bool done = false;
            if (ready && usable(positions + c * size, engine->n_atoms)) {
                try {
                    evaluate_one(*state.workers[thread]->context, positions + c * size, engine->n_atoms,
                                 buffer, energies + c, forces ? forces + c * size : nullptr,
                                 components ? components + c * TBG_E_N : nullptr);
                    done = true;
                } catch (const std::exception &e) {
#pragma omp critical(tbg_openmm_problem)
                    problem = e.what();
                }
            }
            if (!done) {
                energies[c] = nan;
                for (size_t i = 0; forces && i < size; i++)
                    forces[c * size + i] = nan;
                for (int e = 0; components && e < TBG_E_N; e++)
                    components[c * TBG_E_N + e] = nan;
            }
        }
    }
    return problem.empty() ? TBG_OK : tbg_fail(TBG_FAILED, "OpenMM: %s", problem.c_str());
}

void release(struct tbg_engine *engine) {
    std::lock_guard<std::mutex> lock(guard);
    delete static_cast<Pool *>(engine->state);
}

} // namespace

extern "C" int tbg_engine_openmm_create(struct tbg_engine *engine) {
    try {
        auto state = std::make_unique<Pool>();
        {
            std::lock_guard<std::mutex> lock(guard);
            try {
                state->system = engine->system_xml ? read_system(engine->system_xml, engine->n_atoms)
                                                   : make_system(*engine->system);
                state->platform = find_platform(engine->platform ? engine->platform : "Reference");
            } catch (const std::exception &e) {
                return tbg_fail(TBG_INPUT, "OpenMM: %s", e.what());
            }
        }
        if (state->platform->getName() == "CPU")
            state->properties["Threads"] = "1";
        state->workers.resize(engine->threads);
        state->workers[0] = make_worker(*state); // problems show now, not at the first evaluation
        engine->state = state.release();
    } catch (const std::exception &e) {
        return tbg_fail(TBG_FAILED, "OpenMM: %s", e.what());
    }
    engine->evaluate = evaluate;
    engine->release = release;
    return TBG_OK;
}
