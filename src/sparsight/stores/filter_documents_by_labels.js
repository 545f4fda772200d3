// A user-defined function of Cosmos DB. It decides in the database whether a photo is wanted, and returns its
// annotations, cut down to the two fields that a dataset needs, or null.
//
// id: the photo's id.
// labels_with_taxonomy: its annotations, [{annotator_id, taxonomy: [[level 1, level 2], ...]}]; undefined is none.
// include: label paths, [[level 1], [level 1, level 2], ...]. The photo must carry a label at or below one of them.
//     An empty list asks for nothing.
// exclude: label paths. The photo must carry no label at or below any of them.
//
// It never throws: what isn't of this shape is passed over, since one odd document must not end a query.
function filterDocumentsByLabels(id, labels_with_taxonomy, include, exclude) {
  function list(value) {
    return Array.isArray(value) ? value : [];
  }
  function isPath(value) {
    return Array.isArray(value) && value.every(function (name) { return typeof name === "string"; });
  }
  function isUnder(path, node) {
    return Array.isArray(node) && node.length <= path.length && node.every(function (name, i) { return path[i] === name; });
  }
  var annotations = list(labels_with_taxonomy)
    .filter(function (annotation) { return annotation !== null && typeof annotation === "object"; })
    .map(function (annotation) {
      return { annotator_id: annotation.annotator_id, taxonomy: list(annotation.taxonomy).filter(isPath) };
    });
  function carries(nodes) {
    return nodes.some(function (node) {
      return annotations.some(function (annotation) {
        return annotation.taxonomy.some(function (path) { return isUnder(path, node); });
      });
    });
  }
  if (list(include).length > 0 && !carries(list(include))) return null;
  return carries(list(exclude)) ? null : annotations;
}
