// A product whose factors do not fit; shown in docs/tile.md.
tile.kernel @product(%f : f32) {
  %a = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  %b = tile.splat %f : f32 -> !tile.tile<4x16xf32>
  %c = tile.contract %a, %b, %b : !tile.tile<4x8xf32>, !tile.tile<4x16xf32> -> !tile.tile<4x16xf32>
}
