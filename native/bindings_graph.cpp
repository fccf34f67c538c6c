// The graph of nearest neighbours as Python sees it; see bindings.cpp.
#include "bindings.h"
#include "graph.h"

namespace {

using Lists = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

nb::ndarray<nb::numpy, int64_t, nb::ndim<1>> slots_of(const std::vector<Neighbour>& found) {
    std::vector<int64_t> slots;
    for (const Neighbour& each : found) slots.push_back(each.slot);
    return array_of(std::move(slots));
}

void check_query(const Graph& graph, const Values& query, int breadth) {
    require(int(query.shape(0)) == graph.dimensions(), "the query has other dimensions");
    require(breadth > 0, "breadth must be above 0");
}

}  // namespace

void bind_graph(nb::module_& m) {
    nb::class_<Graph>(m, "Graph")
        .def(
            "__init__",
            [](Graph* self, int dimensions, int degree, int breadth, const std::string& kernels) {
                require(dimensions > 0 && dimensions <= 1 << 16, "dimensions must be 1 to 65,536");
                require(degree >= 2 && degree <= 64 && breadth > 0, "degree must be 2 to 64, breadth above 0");
                new (self) Graph(dimensions, degree, breadth, kernels);
            },
            nb::arg("dimensions"), nb::kw_only(), nb::arg("degree"), nb::arg("breadth"), nb::arg("kernels") = "")
        .def("__len__", &Graph::size)
        .def(
            "add",
            [](Graph& graph, const Floats& vectors) {
                require(int(vectors.shape(1)) == graph.dimensions(), "the vectors have other dimensions");
                nb::gil_scoped_release release;
                graph.add(vectors.data(), int64_t(vectors.shape(0)));
            },
            nb::arg("vectors"))
        .def(
            "restore",
            [](Graph& graph, const Floats& vectors, const Flags& levels, const Lists& base, const Lists& upper) {
                require(int(vectors.shape(1)) == graph.dimensions(), "the vectors have other dimensions");
                const GraphLinks links{{levels.data(), levels.data() + levels.size()},
                                       {base.data(), base.data() + base.size()},
                                       {upper.data(), upper.data() + upper.size()}};
                nb::gil_scoped_release release;
                graph.restore(vectors.data(), int64_t(vectors.shape(0)), links);
            },
            nb::arg("vectors"), nb::arg("levels"), nb::arg("base"), nb::arg("upper"))
        .def(
            "unlink",
            [](Graph& graph, const Flags& is_live) {
                require(int64_t(is_live.shape(0)) == graph.size(), "one flag a slot");
                nb::gil_scoped_release release;
                graph.unlink(is_live.data());
            },
            nb::arg("is_live"))
        .def(
            "exported",
            [](const Graph& graph, const Ids& slots) {
                for (size_t i = 0; i < slots.size(); i++) {
                    require(slots(i) >= 0 && slots(i) < graph.size() && (!i || slots(i) > slots(i - 1)),
                            "slots must ascend");
                }
                GraphLinks links = graph.exported(slots.data(), int64_t(slots.size()));
                return nb::make_tuple(array_of(std::move(links.levels)), array_of(std::move(links.base)),
                                      array_of(std::move(links.upper)));
            },
            nb::arg("slots"))
        .def(
            "search",
            [](const Graph& graph, const Values& query, int breadth, const Numbers& group, const Flags& groups) {
                check_query(graph, query, breadth);
                const SlotFilter filter{group.data(), int64_t(group.size()), groups.data(), int64_t(groups.size())};
                std::vector<Neighbour> found;
                {
                    nb::gil_scoped_release release;
                    found = graph.search(query.data(), breadth, filter);
                }
                return slots_of(found);
            },
            nb::arg("query"), nb::arg("breadth"), nb::arg("group"), nb::arg("groups"))
        .def(
            "scan",
            [](const Graph& graph, const Values& query, int breadth, const Ids& slots) {
                check_query(graph, query, breadth);
                std::vector<Neighbour> found;
                {
                    nb::gil_scoped_release release;
                    found = graph.scan(query.data(), slots.data(), int64_t(slots.size()), breadth);
                }
                return slots_of(found);
            },
            nb::arg("query"), nb::arg("breadth"), nb::arg("slots"));
}
